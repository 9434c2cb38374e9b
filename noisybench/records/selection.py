"""Selection rules: functions from the rows of a run to one test score."""

from __future__ import annotations

import dataclasses
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

    This is selection on the test split, which is impossible in practice: the rule is shown, but ranks only on request.
    """
    return max(row.test_score for row in rows)


LABEL_WAVE_WINDOW = 3
"""Number of epochs over which `label_wave` averages the prediction changes."""
LABEL_WAVE_PATIENCE = 5
"""Number of epochs without a lower average after which `label_wave` stops."""


def label_wave(rows: Sequence[EpochRow]) -> float | None:
    """Return the test score of the epoch at the first local minimum of the prediction changes (Yuan et al., 2024).

    Label Wave needs no validation split. The prediction changes are averaged over the last `LABEL_WAVE_WINDOW` epochs; the
    selected epoch has the lowest average until `LABEL_WAVE_PATIENCE` epochs in a row have none that is lower, or until the
    end of training.

    Returns:
        Test score of the selected epoch; None if the run has too few epochs for one average.

    Example:
        >>> from noisybench.records.schema import EpochRow
        >>> rows = [
        ...     EpochRow(epoch, "train", 1.0, 0.5, None, None, epoch / 10, 1.0, None, None, None, 0.1, 1.0, 0,
        ...              prediction_changes=changes)
        ...     for epoch, changes in enumerate([None, 0.9, 0.5, 0.4, 0.3, 0.5, 0.6])
        ... ]
        >>> label_wave(rows)
        0.4
    """
    selected, lowest, waited = None, math.inf, 0
    for end in range(LABEL_WAVE_WINDOW, len(rows)):
        changes = [row.prediction_changes for row in rows[end + 1 - LABEL_WAVE_WINDOW : end + 1]]
        total = math.fsum(change for change in changes if change is not None)
        if None in changes:
            return None
        if total < lowest:
            selected, lowest, waited = rows[end].test_score, total, 0
        else:
            waited += 1
        if waited == LABEL_WAVE_PATIENCE:
            break
    return selected


SELECTION_RULES: dict[str, Callable[[Sequence[EpochRow]], float | None]] = {
    "last": last,
    "last10": last10,
    "noisy_val": noisy_val,
    "label_wave": label_wave,
    "oracle": oracle,
}
"""Selection rules by name."""

RULE_NEEDS: dict[str, str] = {
    "last": "the metric was not measured",
    "last10": "it needs ten epochs",
    "noisy_val": "it needs a validation split",
    "label_wave": f"it needs {LABEL_WAVE_WINDOW + 1} epochs and the predictions for all training examples in each",
    "oracle": "the metric was not measured",
}
"""Requirement of each selection rule, without which a run has no score by it."""

BALANCED_ACCURACY = "balanced_accuracy"
"""Metric by which runs can be scored instead of their own, see `score_by_balanced_accuracy`."""


def score_by_balanced_accuracy(rows: Sequence[EpochRow]) -> list[EpochRow] | None:
    """Return rows whose test and noisy validation scores are balanced accuracies; None if these were not measured.

    A rule that is applied to these rows both selects and reports by balanced accuracy.

    Example:
        >>> from noisybench.records.schema import EpochRow
        >>> row = EpochRow(0, "train", 1.0, 0.5, 0.6, 1.0, 0.7, 1.0, None, None, None, 0.1, 1.0, 0,
        ...                test_balanced_accuracy=0.4, noisy_val_balanced_accuracy=0.3)
        >>> noisy_val(score_by_balanced_accuracy([row]))
        0.4
    """
    balanced = []
    for row in rows:
        if row.test_balanced_accuracy is None:
            return None
        balanced.append(
            dataclasses.replace(
                row,
                test_score=row.test_balanced_accuracy,
                noisy_val_score=row.noisy_val_balanced_accuracy,
                metric=BALANCED_ACCURACY,
            )
        )
    return balanced


def select(record: RunRecord, rule: str, stage: str | None = None, balanced: bool = False) -> float | None:
    """Apply a selection rule to the rows of one stage of a run.

    Args:
        record: finished run.
        rule: key of `SELECTION_RULES`.
        stage: ``train`` or ``refine``; by default the last stage of the run.
        balanced: score by balanced accuracy.

    Returns:
        Test score; None where the rule has none, or where no balanced accuracy was measured.
    """
    rows = _scored_rows(record, stage, balanced)
    return None if rows is None else SELECTION_RULES[rule](rows)


def select_by_all(record: RunRecord, balanced: bool = False) -> dict[str, float | None]:
    """Return what `select` returns for the last stage of a run, by selection rule."""
    rows = _scored_rows(record, None, balanced)
    return {rule: None if rows is None else apply(rows) for rule, apply in SELECTION_RULES.items()}


def _scored_rows(record: RunRecord, stage: str | None, balanced: bool) -> list[EpochRow] | None:
    chosen = stage or record.rows[-1].stage
    rows = [row for row in record.rows if row.stage == chosen]
    return score_by_balanced_accuracy(rows) if balanced else rows
