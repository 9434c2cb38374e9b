"""Plot of a leaderboard: mean and interval of each stack in each setting."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from noisybench.errors import shorten
from noisybench.leaderboard.setting_description import distinct_titles
from noisybench.leaderboard.table import Setting
from noisybench.plots.method_styles import method_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_COLUMNS = 3
"""Largest number of panels in a row."""


def plot_settings(figure: Figure, settings: Sequence[Setting], rule: str) -> list[Axes]:
    """Draw a panel for each setting, and return their axes: mean and 95 % interval of each stack, the best at the top.

    Colors and markers are those of the stacks on the page; markers of stacks with privileged information are open.

    Args:
        figure: empty figure, which gets the size that the panels need.
        settings: settings with their stacks.
        rule: selection rule of the scores.
    """
    columns = max(1, min(MAX_COLUMNS, len(settings)))
    lines = math.ceil(len(settings) / columns)
    tallest = max((len(setting.rows) for setting in settings), default=1)
    figure.set_size_inches(5 * columns, max(1, lines) * (1.6 + 0.26 * tallest))
    styles = method_styles(row.stack for setting in settings for row in setting.rows)
    titles = distinct_titles([setting.description for setting in settings])
    for number, (title, setting) in enumerate(zip(titles, settings, strict=True), 1):
        axes = figure.add_subplot(lines, columns, number)
        rows = [(row, summary) for row in setting.rows if (summary := row.scores[rule]) is not None]
        for position, (row, summary) in enumerate(rows):
            style = styles[row.stack]
            if summary.low is not None and summary.high is not None:
                axes.plot(
                    [100 * summary.low, 100 * summary.high], [position, position], color=style.color, linewidth=1.5
                )
            face = "white" if row.privileged else style.color
            axes.plot(100 * summary.mean, position, **style.matplotlib, markerfacecolor=face, markersize=5)
        ranks = setting.ranking.ranks
        names = [shorten(row.stack, 40) for row, _ in rows]
        labels = [f"{name}  {ranks.get(row.stack, '')}" for name, (row, _) in zip(names, rows, strict=True)]
        axes.set_yticks(range(len(rows)), labels, fontsize=8)
        axes.invert_yaxis()
        axes.set_title(textwrap.fill(title, 60), fontsize=9)
        axes.set_xlabel(
            f"{setting.description.metric.replace('_', ' ')} by {rule} (%), 95 % interval; rank beside the stack",
            fontsize=8,
        )
        axes.grid(axis="x", alpha=0.3)
    return list(figure.axes)
