"""Figure of relabeling curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from noisybench.plots.label_sets import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DASHED = ("random", "oracle")
"""Strategies for comparison, drawn in gray."""


def plot_relabeling(
    curves: Mapping[str, tuple[Sequence[int], Sequence[Sequence[float]], Sequence[Sequence[float]]]],
    title: str,
    paths: Sequence[Path],
) -> None:
    """Plot errors found and accuracy over the number of labels that were looked at, with 95 % intervals as bands.

    Args:
        curves: for each strategy the numbers of labels (T), and (T, 3) mean, lower and upper end of the errors found and of
            the accuracy; ends are NaN without an interval.
        title: title of the figure.
        paths: files to write, with the suffix of any format of matplotlib.
    """
    figure = new_figure((13, 5.5), "constrained")
    grid: Any = figure.subplots(1, 2)
    for axes, column, label in ((grid[0], 1, "incorrect labels found"), (grid[1], 2, "test accuracy after retraining")):
        for number, (strategy, curve) in enumerate(curves.items()):
            _draw(axes, strategy, number, np.asarray(curve[0]), np.asarray(curve[column], dtype=float))
        axes.set(xlabel="labels looked at", ylabel=label)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.grid(alpha=0.3)
    grid[0].legend(fontsize=8)
    figure.suptitle(title, fontsize=11)
    for path in paths:
        figure.savefig(path)


def _draw(axes: Axes, strategy: str, number: int, counts: Any, values: Any) -> None:
    plain = strategy in DASHED
    color = "0.45" if plain else f"C{number}"
    style = (":" if strategy == "random" else "--") if plain else "-"
    axes.plot(counts, values[:, 0], style, color=color, marker=None if plain else ".", label=strategy.replace("_", " "))
    axes.fill_between(counts, values[:, 1], values[:, 2], color=color, alpha=0.15, linewidth=0)
