"""Means and intervals of relabeling curves over random draws, and their table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from noisybench.relabeling.curve import CurvePoint


@dataclass(frozen=True)
class MeanPoint:
    """Mean of one strategy over random draws.

    Attributes:
        strategy: name of the strategy.
        looked_at: number of labels that were looked at.
        errors_found: mean, lower and upper end of the 95 % interval (Student's t over the draws); the ends are None for one
            draw.
        accuracy: likewise.
    """

    strategy: str
    looked_at: int
    errors_found: tuple[float, float | None, float | None]
    accuracy: tuple[float, float | None, float | None]


def average(points: Sequence[CurvePoint]) -> list[MeanPoint]:
    """Return the mean of each strategy and number of labels, in their order.

    Example:
        >>> points = [CurvePoint("random", draw, 5, found, 0.5) for draw, found in enumerate((0.1, 0.3))]
        >>> average(points)[0].accuracy
        (0.5, 0.5, 0.5)
        >>> [round(value, 2) for value in average(points)[0].errors_found]
        [0.2, -1.07, 1.47]
    """
    groups: dict[tuple[str, int], list[CurvePoint]] = {}
    for point in points:
        groups.setdefault((point.strategy, point.looked_at), []).append(point)
    return [
        MeanPoint(
            strategy,
            looked_at,
            _interval([point.errors_found for point in group]),
            _interval([point.accuracy for point in group]),
        )
        for (strategy, looked_at), group in groups.items()
    ]


def _interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    from scipy.stats import t

    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None, None
    half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def to_csv(points: Sequence[CurvePoint], size: int) -> str:
    """Return a row for each strategy, draw and number of labels.

    Example:
        >>> print(to_csv([CurvePoint("random", 0, 5, 0.25, 0.5)], size=20), end="")
        strategy,draw,looked_at,fraction,errors_found,accuracy
        random,0,5,0.2500,0.2500,0.5000
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["strategy", "draw", "looked_at", "fraction", "errors_found", "accuracy"])
    for point in points:
        fractions = (point.looked_at / size, point.errors_found, point.accuracy)
        writer.writerow([point.strategy, point.draw, point.looked_at, *(f"{value:.4f}" for value in fractions)])
    return text.getvalue()


def describe(points: Sequence[CurvePoint]) -> list[str]:
    """Return the means as lines of a table: errors found and accuracy in percent, with half the width of the interval.

    Example:
        >>> describe([CurvePoint("random", 0, looked_at, looked_at / 10, 0.5) for looked_at in (0, 5)])
        ['labels looked at            0            5', 'random            0.0 /  50.0  50.0 /  50.0']
    """
    means = average(points)
    counts = sorted({point.looked_at for point in means})
    rows = [["labels looked at", *map(str, counts)]]
    for strategy in dict.fromkeys(point.strategy for point in means):
        by_count = {point.looked_at: point for point in means if point.strategy == strategy}
        cells = [f"{_cell(by_count[count].errors_found)} / {_cell(by_count[count].accuracy)}" for count in counts]
        rows.append([strategy, *cells])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))])
        for first, *cells in rows
    ]


def _cell(values: tuple[float, float | None, float | None]) -> str:
    mean, _, high = values
    return f"{100 * mean:5.1f}" if high is None else f"{100 * mean:.1f}±{100 * (high - mean):.1f}"


Curve = tuple[list[int], list[list[float]], list[list[float]]]
"""Numbers of labels, and mean, lower and upper end of the errors found and of the accuracy."""


def curves(points: Sequence[CurvePoint]) -> dict[str, Curve]:
    """Return the means of each strategy for a figure; ends of intervals are NaN for one draw.

    Example:
        >>> curves([CurvePoint("random", 0, 5, 0.25, 0.5)])
        {'random': ([5], [[0.25, nan, nan]], [[0.5, nan, nan]])}
    """
    result: dict[str, Curve] = {}
    for point in average(points):
        counts, found, accuracy = result.setdefault(point.strategy, ([], [], []))
        counts.append(point.looked_at)
        for column, values in ((found, point.errors_found), (accuracy, point.accuracy)):
            column.append([float("nan") if value is None else value for value in values])
    return result
