"""Verification of submissions: scores are computed again from the predictions, and runs are trained again.

Computed for each run: identity, stack, budget and privileged information from the specification; label set and test targets from
dataset and noise model; test, noisy validation and clean validation accuracy of every epoch; and, at the end, training accuracy,
memorized and recovered fractions, test loss, calibration error, detection and corrected labels. Costs, training losses and the
detectors of earlier epochs do not follow from predictions: these remain claims until the run is trained again.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from noisybench.config.overrides import Override, override, parse_overrides
from noisybench.config.resolve import resolve
from noisybench.config.spec import RunSpec
from noisybench.data.dataset import Dataset
from noisybench.data.label_set import LabelSet
from noisybench.errors import UserError
from noisybench.leaderboard.checks import check_record
from noisybench.leaderboard.submission import RunEvidence, Status, Submission
from noisybench.records.schema import RunRecord
from noisybench.records.selection import select
from noisybench.tracking.reader import TrackedRun
from noisybench.tracking.store import Store

TOLERANCE = 2.0
"""Allowed difference of `last`, in percentage points, when a run is trained again on another machine."""


@dataclass
class VerificationResult:
    """Outcome of a verification.

    Attributes:
        runs: number of checked runs.
        problems: reasons for refusal; if there are none, the scores follow from the predictions.
        rerun: comparison of each run that was trained again.
    """

    runs: int = 0
    problems: list[str] = field(default_factory=list)
    rerun: list[str] = field(default_factory=list)

    @property
    def status(self) -> Status:
        """Status that the submission deserves."""
        if self.problems:
            return "claimed"
        return "re-run" if self.rerun else "re-scored"


def collect_evidence(store: Store, runs: Iterable[TrackedRun]) -> Iterator[tuple[RunRecord, RunEvidence]]:
    """Yield finished runs of a store with the evidence for a submission.

    Raises:
        UserError: a run has no evidence: its task cannot be submitted yet, or its predictions were not stored.
    """
    # Its import is slow, and only packaging needs it.
    import pandas

    for run in runs:
        record = store.runs.record(run)
        if record.metric != "accuracy":
            raise UserError(
                f"{record.title}: only runs that are scored by accuracy can be submitted, not by {record.metric} yet"
            )
        tables = {}
        for name in ("predictions", "samples", "validation"):
            with store.runs.open_file(run, f"{name}.parquet") as file:
                if file is not None:
                    tables[name] = pandas.read_parquet(file)
        # A run without a validation split has no table for it, which is no missing file.
        if len(tables) < 2 + bool(record.manifest["dataset"]["sizes"]["validation"]):
            raise UserError(
                f"{record.title}: its predictions are missing from the store; train it again in a new store"
            )
        test, samples, validation = tables["predictions"], tables["samples"], tables.get("validation")
        yield (
            record,
            RunEvidence(
                test_index=test["index"].to_numpy(np.int64),
                test_target=test["target"].to_numpy(np.int64),
                test_by_epoch=_by_epoch(test),
                test_probabilities=np.stack(test["probabilities"].tolist()).astype(np.float32),
                validation_index=np.empty(0, np.int64)
                if validation is None
                else validation["index"].to_numpy(np.int64),
                validation_by_epoch=np.empty((len(record.rows), 0), np.int16)
                if validation is None
                else _by_epoch(validation),
                train_index=samples["index"].to_numpy(np.int64),
                train_observed=samples["observed"].to_numpy(np.int64),
                label_quality=samples["label_quality"].to_numpy(np.float32),
                prediction=samples["prediction"].to_numpy(np.int16),
                corrected_labels=samples["corrected_labels"].to_numpy(np.int16),
            ),
        )


def _by_epoch(table: Any) -> Any:
    """Return (rows, examples) predicted classes from a table with one list per example."""
    # Scores are computed one epoch at a time, so each epoch is contiguous in memory.
    return np.ascontiguousarray(np.stack(table["by_epoch"].tolist()).astype(np.int16).T)


def verify(
    submission: Submission, overrides: Iterable[str] = (), rerun: int = 0, tolerance: float = TOLERANCE
) -> Iterator[VerificationResult]:
    """Verify a submission.

    Args:
        submission: complete submission of the correct form.
        overrides: location of the data on this machine, for example ``dataset.root=data/cifar10``.
        rerun: number of runs to train again, evenly spaced.
        tolerance: allowed difference of `last` in percentage points, see `TOLERANCE`.

    Yields:
        The same result after each run that was checked or trained again; the last one is the outcome.

    Raises:
        UserError: the data are missing, or a file is damaged.
    """
    result, settings = VerificationResult(), _SettingCache()
    changes = parse_overrides(overrides)
    runs: list[tuple[RunSpec, RunRecord]] = []
    for record in submission.records():
        spec = _resolve_spec(record, changes)
        dataset, labels = settings.load(spec)
        evidence = submission.evidence(record.identity)
        problems = check_record(record, spec, dataset, labels, evidence)
        result.problems += [f"{record.title}: {problem}" for problem in problems]
        result.runs += 1
        # Predictions are not kept: those of all runs together may exceed the memory.
        runs.append((spec, record))
        yield result
    # Training takes far longer than the checks, and cannot save a submission that failed them.
    if result.problems:
        return
    for index in np.unique(np.linspace(0, len(runs) - 1, min(rerun, len(runs))).round().astype(int)):
        spec, record = runs[index]
        comparison, is_close = _retrain(spec, record, tolerance)
        result.rerun.append(comparison)
        if not is_close:
            result.problems.append(f"{comparison}: more than {tolerance:g} points apart")
        yield result


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


def _resolve_spec(record: RunRecord, changes: list[Override]) -> RunSpec:
    # How a run was executed, such as its device, belongs to the other machine and is not part of its identity.
    raw: Mapping[str, Any] = {**record.spec, "execution": {}}
    for change in changes:
        raw = override(raw, change.path, change.value(raw, "verification takes one value per override"))
    try:
        return resolve(raw)
    except UserError as error:
        raise UserError(*(f"{record.title}: {problem}" for problem in error.problems)) from None


def _retrain(spec: RunSpec, record: RunRecord, tolerance: float) -> tuple[str, bool]:
    """Train a run again, and return how it compares, and whether it is within the tolerance."""
    # Imported here: scoring a submission again needs no Lightning, whose import takes seconds.
    from noisybench.runs.environment import describe_environment
    from noisybench.runs.preparation import prepare_run
    from noisybench.runs.training import train

    # A new folder: a used one may hold a checkpoint from which training would resume.
    with tempfile.TemporaryDirectory() as folder:
        recorder = train(
            prepare_run(spec),
            Path(folder),
            lambda rows: None,
            lambda kind, data: None,
            lambda: False,
            Path(folder) / "auxiliary",
        )
        retrained = recorder.record(describe_environment(spec))
    # Equal weights imply equal predictions, which is stronger evidence than any tolerance.
    if retrained.weights_sha256 == record.weights_sha256:
        return f"{record.title}: bit-identical", True
    claimed, measured = select(record, "last"), select(retrained, "last")
    assert claimed is not None
    assert measured is not None
    comparison = f"{record.title}: last {100 * measured:.2f} here, {100 * claimed:.2f} claimed"
    return comparison, abs(100 * (measured - claimed)) <= tolerance
