"""Selection."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from noisybench.records.schema import EpochRow, RunRecord


def last(rows: Sequence[EpochRow]) -> float | None:
    """Test score of the last epoch."""
    return rows[-1].test_score


def last10(rows: Sequence[EpochRow]) -> float | None:
    """Mean test score of the last ten epochs; None with fewer."""
    return math.fsum(row.test_score for row in rows[-10:]) / 10 if len(rows) >= 10 else None


def noisy_val(rows: Sequence[EpochRow]) -> float | None:
    """Test score of the epoch with the best score on the noisy validation split, the latest on a tie."""
    if any(row.noisy_val_score is None for row in rows):
        return None
    return max(rows, key=lambda row: (row.noisy_val_score, row.epoch)).test_score


def oracle(rows: Sequence[EpochRow]) -> float | None:
    """Best test score of all epochs: selection on the test split, which no one could do. Never ranked."""
    return max(row.test_score for row in rows)


SELECTION_RULES: dict[str, Callable[[Sequence[EpochRow]], float | None]] = {
    "last": last,
    "last10": last10,
    "noisy_val": noisy_val,
    "oracle": oracle,
}
"""How one number is taken from a run's rows."""


def select(record: RunRecord, rule: str, stage: str | None = None) -> float | None:
    """Apply a selection rule to the rows of one stage: by default the last stage of the run."""
    chosen = stage or record.rows[-1].stage
    return SELECTION_RULES[rule]([row for row in record.rows if row.stage == chosen])
