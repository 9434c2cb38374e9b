"""The metric by which stacks are ranked: that of the task, or balanced accuracy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from noisybench.leaderboard.measurements import Measurement
from noisybench.records.schema import RunRecord
from noisybench.records.selection import BALANCED_ACCURACY, SELECTION_RULES, score_by_balanced_accuracy


def with_metric(measurements: Iterable[Measurement], metric: str) -> tuple[list[Measurement], list[dict[str, str]]]:
    """Return measurements whose scores are those of a metric, and the runs for which it was not measured.

    Args:
        measurements: finished runs.
        metric: ``default`` for the metric of each task, or ``balanced_accuracy``, by which the epochs are selected too.

    Returns:
        Measurements, and ``what`` and ``why`` of each run without the metric.

    Example:
        >>> from noisybench.leaderboard.measurement_tables import builtin_measurements
        >>> masks = [each for each in builtin_measurements() if each.entry == "pseudo-labels"]
        >>> measured, excluded = with_metric(masks[:1], "balanced_accuracy")
        >>> len(measured), excluded[0]["why"]
        (0, 'balanced_accuracy was not measured')
    """
    if metric != BALANCED_ACCURACY:
        return list(measurements), []
    scored, missing = list[Measurement](), list[dict[str, str]]()
    for measurement in measurements:
        if measurement.balanced_last is None:
            title = f"{measurement.setting.title} · {measurement.stack} · seed {measurement.seed}"
            missing.append({"what": title, "why": f"{metric} was not measured"})
        else:
            scored.append(_balanced(measurement))
    return scored, missing


def _balanced(measurement: Measurement) -> Measurement:
    # Published results are accuracies, and not comparable with the new scores.
    setting = replace(measurement.setting, metric=BALANCED_ACCURACY, literature=())
    scores = {rule: getattr(measurement, f"balanced_{rule}") for rule in SELECTION_RULES}
    record = measurement.record and _balanced_record(measurement.record)
    return replace(measurement, setting=setting, record=record, **scores)


def _balanced_record(record: RunRecord) -> RunRecord:
    """Return a record with rows of balanced accuracies, which the page plots."""
    return replace(record, rows=score_by_balanced_accuracy(record.rows) or record.rows)
