"""Selection rules: functions from the rows of a run to one test score."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from noisybench.records.schema import EpochRow, RunRecord


def last(rows: Sequence[EpochRow]) -> float | None:
    """Return the test score of the last epoch.

    Example:
        >>> from noisybench.records.schema import EpochRow
        >>> rows = [
        ...     EpochRow(0, "train", 1.0, 0.5, 0.6, 1.0, 0.7, 1.0, None, None, None, 0.1, 1.0, 0),
        ...     EpochRow(1, "train", 0.5, 0.9, 0.4, 1.2, 0.6, 1.5, None, None, None, 0.1, 1.0, 0),
        ... ]
        >>> last(rows), last10(rows), noisy_val(rows), oracle(rows)
        (0.6, None, 0.7, 0.7)
    """
    return rows[-1].test_score


def last10(rows: Sequence[EpochRow]) -> float | None:
    """Return the mean test score of the last ten epochs; None with fewer."""
    # `fsum` rounds once, so that the score does not depend on the order of summation.
    return math.fsum(row.test_score for row in rows[-10:]) / 10 if len(rows) >= 10 else None


def noisy_val(rows: Sequence[EpochRow]) -> float | None:
    """Return the test score of the epoch with the best noisy validation score, the latest on a tie."""
    if any(row.noisy_val_score is None for row in rows):
        return None
    return max(rows, key=lambda row: (row.noisy_val_score, row.epoch)).test_score


def oracle(rows: Sequence[EpochRow]) -> float | None:
    """Return the best test score of all epochs.

    This is selection on the test split, which is impossible in practice: the rule is shown, but never ranked.
    """
    return max(row.test_score for row in rows)


SELECTION_RULES: dict[str, Callable[[Sequence[EpochRow]], float | None]] = {
    "last": last,
    "last10": last10,
    "noisy_val": noisy_val,
    "oracle": oracle,
}
"""Selection rules by name."""


def select(record: RunRecord, rule: str, stage: str | None = None) -> float | None:
    """Apply a selection rule to the rows of one stage of a run.

    Args:
        record: finished run.
        rule: key of `SELECTION_RULES`.
        stage: ``train`` or ``refine``; by default the last stage of the run.
    """
    chosen = stage or record.rows[-1].stage
    return SELECTION_RULES[rule]([row for row in record.rows if row.stage == chosen])
