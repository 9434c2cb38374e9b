"""Settings in which a component was measured, from the measurements that ship with noisybench."""

from __future__ import annotations

import functools
import re
import statistics
from collections import defaultdict
from dataclasses import dataclass

from noisybench.leaderboard.measurement_tables import builtin_measurements


@dataclass(frozen=True)
class MeasuredRow:
    """Final score of one stack in one setting, over seeds."""

    suite: str
    dataset: str
    noise: str
    network: str
    stack: str
    score: str
    seeds: int
    privileged: tuple[str, ...]


@functools.cache
def _all_rows() -> tuple[MeasuredRow, ...]:
    groups = defaultdict(list)
    privileged = {}
    for each in builtin_measurements():
        setting = each.setting
        network = f"{setting.network}, {setting.epochs} epochs"
        row = (each.entry, setting.dataset, setting.noise, network, each.stack)
        groups[row].append(100 * each.last)
        privileged[row] = each.privileged
    rows = []
    for row, scores in groups.items():
        spread = f" ± {statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
        score = f"{statistics.mean(scores):.1f}{spread}"
        rows.append(MeasuredRow(*row, score, len(scores), privileged[row]))
    return tuple(rows)


def measured_with(kind: str, name: str) -> list[MeasuredRow]:
    """Return the measurements of stacks with a mitigation, or of cross-entropy and the best stack under a noise model.

    The best stack is one without privileged information, which readers rarely have.

    >>> {row.suite for row in measured_with("mitigations", "gce")} >= {"quickstart"}
    True
    >>> any(row.privileged for row in measured_with("noise_models", "symmetric_exclusive"))
    False
    """
    if kind == "mitigations":
        return [row for row in _all_rows() if name in re.findall(r"(?:^|\+)(\w+)", row.stack)]
    settings = defaultdict(list)
    for row in _all_rows():
        if re.match(r"\w+", row.noise)[0] == name:
            settings[row.suite, row.dataset, row.noise, row.network].append(row)
    chosen = []
    for rows in settings.values():
        best = max(
            (row for row in rows if not row.privileged), key=lambda row: float(row.score.split()[0]), default=None
        )
        chosen += [row for row in rows if row.stack == "cross_entropy" or row is best]
    return chosen
