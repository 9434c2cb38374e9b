"""Entries that ship with noisybench, as blocks show them."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

import yaml

from noisybench.leaderboard.display_names import distinct_names, distinguishing_titles
from noisybench.leaderboard.measurement_tables import SHIPPED, builtin_measurements
from noisybench.leaderboard.measurements import Measurement
from noisybench.leaderboard.standings import best_group
from noisybench.leaderboard.table import Setting, build_settings
from noisybench.leaderboard.verdict import BASELINE
from noisybench.utils.text import counted

BOARDS = Path(__file__).parents[1] / "boards.yaml"
RULE = "last"

Cells = list[list[str]]
"""Rows of cells, the titles first."""
Block = list[tuple[str, Cells]]
"""Paragraphs, each with the table that follows it; without cells there is none."""


def shipped() -> list[Measurement]:
    """Return the measurements that ship."""
    return builtin_measurements()


def entry_names() -> list[str]:
    """Return the names of the entries that ship."""
    return sorted({each.entry for each in shipped()})


class Entry:
    """Settings of one entry, or of all that ship (`shipped`), with short names of its stacks and settings."""

    def __init__(self, name: str) -> None:
        measurements = [each for each in shipped() if name in (each.entry, SHIPPED)]
        if not measurements:
            entries = ", ".join(entry_names())
            sys.exit(f"error: no entry {name} ships with noisybench; known entries: {entries}")
        self.name = name
        self.settings: list[Setting] = build_settings(measurements, RULE)
        descriptions = [setting.description for setting in self.settings]
        self.titles = distinguishing_titles([(each.dataset, each.noise, each.task) for each in descriptions])
        stacks = {row.stack for setting in self.settings for row in setting.rows}
        self.names = distinct_names(stacks)
        means = {stack: [score for score in self.scores(stack) if score is not None] for stack in stacks}
        self.stacks = sorted(stacks, key=lambda stack: (-statistics.fmean(means[stack]), stack))

    def scores(self, stack: str) -> list[float | None]:
        """Return the mean score of a stack in each setting, in points; None where it has no runs."""
        return [self._mean(setting, stack) for setting in self.settings]

    @staticmethod
    def _mean(setting: Setting, stack: str) -> float | None:
        summaries = [row.scores[RULE] for row in setting.rows if row.stack == stack]
        return 100 * summaries[0].mean if summaries and summaries[0] is not None else None

    def complete_scores(self, stack: str) -> list[float]:
        """Return the mean score of a stack in each setting, in points; it must have runs in all of them."""
        scores = [score for score in self.scores(stack) if score is not None]
        if len(scores) < len(self.settings):
            sys.exit(f"error: {self.name}: {stack} has no runs in some settings")
        return scores

    def gains(self, stack: str) -> list[float | None]:
        """Return the difference of a stack from cross-entropy in each setting, in points."""
        pairs = zip(self.scores(stack), self.scores(BASELINE), strict=True)
        return [None if score is None or base is None else score - base for score, base in pairs]

    def is_best(self, stack: str) -> list[bool]:
        """Return for each setting whether a stack is in the best rank group; an unstable one must have the highest score."""
        unstable = self.is_unstable(stack)
        return [
            stack in best_group(setting.ranking.ranks, setting.mean_scores(), ())
            and (not doubtful or setting.rows[0].stack == stack)
            for setting, doubtful in zip(self.settings, unstable, strict=True)
        ]

    def is_unstable(self, stack: str) -> list[bool]:
        """Return for each setting whether a stack varies so much over seeds that few differences from it are significant."""
        return [stack in {each.stack for each in setting.unstable} for setting in self.settings]

    def needs(self, stack: str) -> str:
        """Return the privileged information of a stack in words."""
        rows = [row for setting in self.settings for row in setting.rows if row.stack == stack]
        return ", ".join(rows[0].privileged).replace("_", " ") or "none"

    def seeds(self) -> str:
        """Return the smallest and largest number of seeds in words."""
        counts = {len(row.measurements) for setting in self.settings for row in setting.rows}
        low, high = min(counts), max(counts)
        return counted(low, "seed") if low == high else f"{low} to {high} seeds"

    def deviation(self) -> float | None:
        """Return the median standard deviation over seeds, in points; None if every stack has one seed."""
        summaries = [row.scores[RULE] for setting in self.settings for row in setting.rows]
        deviations = [each.deviation for each in summaries if each is not None and each.deviation is not None]
        return 100 * float(statistics.median(deviations)) if deviations else None


def is_measured(entry: str) -> bool:
    """Return False for an entry of tools/boards.yaml that does not ship yet."""
    return entry in entry_names() or entry not in boards()


def boards() -> dict[str, dict[str, Any]]:
    """Return the entries of tools/boards.yaml."""
    content: dict[str, dict[str, Any]] = yaml.safe_load(BOARDS.read_text(encoding="utf-8"))
    return content
