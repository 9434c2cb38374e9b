"""Kinds of evidence: which tasks can be submitted, what is stored of their runs, and which scores follow from it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisybench.errors import UserError
from noisybench.leaderboard import class_evidence, mask_evidence, trace_evidence
from noisybench.leaderboard.strict_files import MAX_ARRAY_BYTES, read_arrays, read_plain_file
from noisybench.records.evidence import EVIDENCE_FILE, ClassEvidence, MaskEvidence, TraceEvidence, array_types
from noisybench.records.schema import RunRecord
from noisybench.utils.text import printable

if TYPE_CHECKING:
    from noisybench.tracking.reader import TrackedRun
    from noisybench.tracking.store import Store


@dataclass(frozen=True)
class EvidenceKind:
    """Evidence of the runs of some tasks.

    Attributes:
        metric: metric of these runs.
        tasks: names of the tasks.
        evidence: class of the arrays.
        check_shapes: returns which arrays of a record's evidence do not fit its dataset and label set.
        check_scores: returns which scores of a record do not follow from its evidence.
        recomputed_diagnostics: returns the diagnostics that follow from the evidence, for the names of the classes.
        claimed_diagnostics: further diagnostics of the evaluator.
        amounts: diagnostics of the evaluator that are no fractions.
        claims: keys of `claims.CLAIMS` that these runs make beside those that all runs make.
        counts_changes: whether the rows have prediction changes.
    """

    metric: str
    tasks: tuple[str, ...]
    evidence: type[Any]
    check_shapes: Callable[..., list[str]]
    check_scores: Callable[..., list[str]]
    recomputed_diagnostics: Callable[[list[str]], frozenset[str]]
    claimed_diagnostics: frozenset[str] = frozenset()
    amounts: frozenset[str] = frozenset()
    claims: frozenset[str] = frozenset()
    counts_changes: bool = False

    def collect(self, store: Store, run: TrackedRun, record: RunRecord) -> Any:
        """Return the evidence of a finished run of a store.

        Raises:
            UserError: its predictions were not stored, or are too large.
        """
        # Runs with one class per example have them in tables that users read as well.
        if self.evidence is ClassEvidence:
            return class_evidence.collect(store, run, record)
        with store.runs.open_file(run, EVIDENCE_FILE) as file:
            if file is None:
                raise UserError(
                    f"{record.title}: its predictions are missing from the store; train it again in a new store"
                )
            check_evidence_size(record, _array_sizes(file))
            return self.evidence(
                **read_arrays(read_plain_file(file, MAX_ARRAY_BYTES), array_types(self.evidence), file)
            )


EVIDENCE_KINDS = (
    EvidenceKind(
        "accuracy",
        ("classification", "transfer", "step_verification"),
        ClassEvidence,
        class_evidence.check_shapes,
        class_evidence.check_scores,
        lambda class_names: frozenset(),
        claimed_diagnostics=class_evidence.DIAGNOSTICS,
        counts_changes=True,
    ),
    EvidenceKind(
        "miou",
        ("segmentation",),
        MaskEvidence,
        mask_evidence.check_shapes,
        mask_evidence.check_scores,
        mask_evidence.diagnostics,
        claims=frozenset({"calibration_error", "rows.test_loss"}),
    ),
    EvidenceKind(
        "exact_match",
        ("chain_of_thought", "prompting"),
        TraceEvidence,
        trace_evidence.check_shapes,
        trace_evidence.check_scores,
        trace_evidence.diagnostics,
        claimed_diagnostics=trace_evidence.CLAIMED,
        amounts=trace_evidence.AMOUNTS,
        claims=frozenset({"rows.test_loss"}),
    ),
)
"""Kinds of evidence; runs of other tasks cannot be submitted."""


def evidence_kind(task: str) -> EvidenceKind | None:
    """Return the kind of evidence of a task; None if its runs cannot be submitted.

    Example:
        >>> evidence_kind("transfer").metric, evidence_kind("my_task")
        ('accuracy', None)
    """
    return next((kind for kind in EVIDENCE_KINDS if task in kind.tasks), None)


def not_submittable(task: str) -> str:
    """Return that runs of a task cannot be submitted, and which ones can.

    Example:
        >>> not_submittable("my_task")
        'only runs of classification, transfer, ... and prompting can be submitted, not of my_task'
    """
    *others, last = (name for kind in EVIDENCE_KINDS for name in kind.tasks)
    return f"only runs of {', '.join(others)} and {last} can be submitted, not of {task}"


def _array_sizes(file: Path) -> dict[str, int]:
    """Return the number of bytes of each array of an archive; none if it is damaged, which `read_arrays` reports."""
    try:
        with zipfile.ZipFile(file) as archive:
            return {member.filename.removesuffix(".npy"): member.file_size for member in archive.infolist()}
    except zipfile.BadZipFile:
        return {}


def check_evidence_size(record: RunRecord, sizes: Mapping[str, int]) -> None:
    """Refuse evidence that readers of a submission would refuse.

    Args:
        record: record of the run.
        sizes: number of bytes of each array.

    Raises:
        UserError: there are more than `MAX_ARRAY_BYTES`.
    """
    num_bytes = sum(sizes.values())
    if num_bytes > MAX_ARRAY_BYTES:
        largest = max(sizes, key=lambda name: sizes[name])
        raise UserError(
            f"{printable(record.title)}: its evidence has {num_bytes / 2**20:.0f} MB, most of it {largest}, but a submission "
            f"has at most {MAX_ARRAY_BYTES / 2**20:.0f} MB for each run; train with fewer epochs, fewer test and validation "
            "examples or smaller images, or leave the run out with --suite or --label-set"
        )
