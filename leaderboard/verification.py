"""Verification of submissions: scores are computed again from the predictions, and runs are trained again.

The specification of a run is resolved by a `TrustPolicy`, and refused before anything is loaded if it reaches for more than
values. Identity, names, budget and privileged information follow from the specification, label set and test targets from dataset
and noise model, accuracies and final scores from the predictions. All other values are claims, see `claims`.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import resource
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from noisybench.config.spec import RunSpec
from noisybench.data.dataset import Dataset
from noisybench.data.label_sets.label_set import LabelSet
from noisybench.errors import UserError
from noisybench.leaderboard.checks import check_record, check_specification
from noisybench.leaderboard.claims import check_claims, claims_of
from noisybench.leaderboard.comparison import FLOAT_TOLERANCE
from noisybench.leaderboard.evidence_kinds import evidence_kind, not_submittable
from noisybench.leaderboard.stamps import Status
from noisybench.leaderboard.submission import Submission
from noisybench.leaderboard.trust import Refused, TrustPolicy, check_task
from noisybench.records.schema import RunRecord
from noisybench.records.selection import SELECTION_RULES, select
from noisybench.tracking.reader import TrackedRun
from noisybench.tracking.store import Store
from noisybench.utils.progress import report_progress

TOLERANCE = 2.0
"""Allowed difference of the selected scores, in percentage points, when a run is trained again on another machine."""


MAX_MEMORY = 16.0
"""Memory in GiB that checking one run may take."""


@dataclass
class VerificationResult:
    """Outcome of a verification.

    Attributes:
        runs: number of checked runs.
        problems: reasons for refusal; if there are none, the scores follow from the predictions.
        rerun: comparison of each run that was trained again.
        claims: keys of `claims.CLAIMS`: what remains a claim.
        other_code: number of runs that were trained by other source code than that installed here.
    """

    runs: int = 0
    problems: list[str] = field(default_factory=list)
    rerun: list[str] = field(default_factory=list)
    claims: set[str] = field(default_factory=set)
    other_code: int = 0

    @property
    def status(self) -> Status:
        """Status that the submission deserves."""
        if self.problems:
            return "claimed"
        return "re-run" if self.rerun else "re-scored"


def collect_evidence(store: Store, runs: Iterable[TrackedRun]) -> Iterator[tuple[RunRecord, Any]]:
    """Yield finished runs of a store with the evidence for a submission.

    Raises:
        UserError: a run has no evidence: its task cannot be submitted, or its predictions were not stored.
    """
    for run in runs:
        record = store.runs.record(run)
        name = record.spec["task"]["name"]
        kind = evidence_kind(name)
        if kind is None:
            raise UserError(f"{record.title}: {not_submittable(name)}")
        yield record, kind.collect(store, run, record)


def verify(
    submission: Submission,
    policy: TrustPolicy | None = None,
    rerun: int = 0,
    tolerance: float = TOLERANCE,
    max_memory: float = MAX_MEMORY,
) -> Iterator[VerificationResult]:
    """Verify a submission.

    Args:
        submission: complete submission of the correct form.
        policy: what its specifications may reach on this machine; by default nothing.
        rerun: number of runs to train again, chosen at random.
        tolerance: allowed difference of the selected scores in percentage points, see `TOLERANCE`.
        max_memory: memory in GiB that checking one run may take; retraining takes what the run needs.

    Yields:
        The same result after each run that was checked or trained again; the last one is the outcome.

    Raises:
        UserError: the data are missing, or a file is damaged.
    """
    policy = policy or TrustPolicy()
    result, settings = VerificationResult(), _SettingCache()
    runs: list[tuple[RunSpec, RunRecord]] = []
    for record in submission.records():
        result.runs += 1
        try:
            claimed, safe = policy.resolve(record.spec)
            kind = check_task(safe)
            problems = [*check_claims(record, claimed, kind), *check_specification(record, claimed)]
            with limit_memory(max_memory):
                dataset, labels = settings.load(safe)
                problems += check_record(record, dataset, labels, kind, submission.evidence(record.identity, kind))
        except Refused as error:
            problems = error.problems
        if not problems:
            # Predictions are not kept: those of all runs together may exceed the memory.
            runs.append((safe, record))
            result.claims |= claims_of(record, kind)
            result.other_code += record.code != safe.code
        result.problems += [f"{record.title}: {problem}" for problem in problems]
        yield result
    # Training takes far longer than the checks, and cannot save a submission that failed them.
    if result.problems:
        return
    policy.check_used()
    # At random: a submitter who knows which runs are retrained could make up the others.
    for spec, record in random.SystemRandom().sample(runs, min(rerun, len(runs))):
        if spec.budget.devices > (cores := os.cpu_count() or 1):
            raise UserError(
                f"{record.title}: retraining needs {spec.budget.devices} devices, more than the {cores} cores of this machine"
            )
        comparison, problem = _compare(spec, record, tolerance)
        result.rerun.append(comparison)
        result.problems += [problem] if problem else []
        yield result


@contextlib.contextmanager
def limit_memory(gib: float) -> Iterator[None]:
    """Refuse to allocate more private memory than a limit, where the system can.

    Raises:
        Refused: more memory was needed.

    Example:
        >>> with limit_memory(1):
        ...     bytearray(2**40)
        Traceback (most recent call last):
        noisybench.leaderboard.trust.Refused: its data or scores need more than 1 GiB of memory; allow more with --max-memory
    """
    try:
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        used = sum(map(int, Path("/proc/self/statm").read_text().split()[5:6])) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (used + int(gib * 2**30), hard))
    # Only Linux counts the memory of large arrays in this limit.
    except (OSError, ValueError):
        yield
        return
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # PyTorch reports failed allocations as RuntimeError.
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        raise Refused(
            f"its data or scores need more than {gib:g} GiB of memory; allow more with --max-memory"
        ) from None
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


class _SettingCache:
    """Datasets and label sets, computed once for all runs that share them."""

    def __init__(self) -> None:
        self._datasets: dict[str, Dataset] = {}
        self._labels: dict[str, LabelSet] = {}

    def load(self, spec: RunSpec) -> tuple[Dataset, LabelSet]:
        """Return the dataset, with the images of the noise model, and the label set of a specification."""
        dataset_key = json.dumps(spec.dataset.as_dict(), sort_keys=True, default=str)
        # The same noise model gives other labels for another dataset.
        labels_key = dataset_key + json.dumps(spec.noise.as_dict(), sort_keys=True, default=str)
        if dataset_key not in self._datasets:
            self._datasets[dataset_key] = spec.dataset.build().load()
        if labels_key not in self._labels:
            self._labels[labels_key] = spec.noise.build().apply(self._datasets[dataset_key])
        labels = self._labels[labels_key]
        return labels.apply_to(self._datasets[dataset_key]), labels


def retrain(spec: RunSpec, folder: Path) -> RunRecord:
    """Train a run under the installed code, without a store, and return its record.

    Args:
        spec: specification that the caller trusts.
        folder: new folder: a used one may hold a checkpoint from which training would resume.
    """
    # Imported here: scoring a submission again needs no Lightning, whose import takes seconds.
    from noisybench.runs.environment import describe_environment
    from noisybench.runs.preparation import prepare_run
    from noisybench.runs.training import train

    recorder = train(
        prepare_run(spec),
        folder,
        lambda rows: None,
        lambda kind, data: report_progress(
            "train a run again", data["epoch"] + 1, data["epochs"] or spec.budget.epochs
        ),
        lambda: False,
        folder / "auxiliary",
    )
    return recorder.record(describe_environment(spec))


def _compare(spec: RunSpec, record: RunRecord, tolerance: float) -> tuple[str, str]:
    """Train a run again, and return how it compares, and the problem if its scores are too far apart, else nothing."""
    with tempfile.TemporaryDirectory() as folder:
        retrained = retrain(spec, Path(folder))
    scores = {rule: (select(retrained, rule), select(record, rule)) for rule in SELECTION_RULES}
    pairs = {
        rule: (100 * here, 100 * claimed)
        for rule, (here, claimed) in scores.items()
        if here is not None and claimed is not None
    }
    # The digest is a claim, and may be copied from an honest run beside other predictions.
    has_equal_weights = retrained.weights_sha256 == record.weights_sha256
    allowed = 100 * FLOAT_TOLERANCE if has_equal_weights else tolerance
    apart = [rule for rule, (here, claimed) in pairs.items() if not math.isclose(here, claimed, abs_tol=allowed)]
    if has_equal_weights and not apart:
        return f"{record.title}: bit-identical", ""
    values = ", ".join(f"{rule} {pairs[rule][0]:.2f} here, {pairs[rule][1]:.2f} claimed" for rule in apart or ["last"])
    comparison = f"{record.title}: {values}"
    if not apart:
        return comparison, ""
    reason = "although the weights are the same" if has_equal_weights else f"more than {tolerance:g} points apart"
    return comparison, f"{comparison}: {reason}"
