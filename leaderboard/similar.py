"""Advice from measured settings that resemble a given set of labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from noisybench.leaderboard.columns import format_percent
from noisybench.leaderboard.measurements import Measurement
from noisybench.leaderboard.setting_description import SettingDescription
from noisybench.leaderboard.table import Setting, build_settings
from noisybench.records.equivalence import Equivalence
from noisybench.utils.text import counted

MAX_SETTINGS = 3
"""Number of settings that are reported."""
MAX_STACKS = 4
"""Number of best stacks that are reported of each setting, beside cross-entropy."""


def setting_distance(setting: SettingDescription, noise_rate: float, num_examples: int, num_classes: int) -> float:
    """Return the dissimilarity of a setting: above all by its noise rate, then by the numbers of examples and classes.

    Args:
        setting: measured setting with a known noise rate.
        noise_rate: estimated noise rate of the given labels.
        num_examples: number of given labels.
        num_classes: number of their classes.

    Example:
        >>> from noisybench.leaderboard.measurement_tables import builtin_measurements
        >>> setting = builtin_measurements()[0].setting
        >>> setting_distance(setting, setting.actual_noise_rate, setting.train_size, setting.num_classes)
        0.0
    """
    if setting.actual_noise_rate is None:
        return math.inf
    # A factor of 7 in size weighs as much as 10 points of noise rate.
    return (
        abs(setting.actual_noise_rate - noise_rate)
        + 0.05 * abs(math.log(setting.train_size / num_examples))
        + 0.05 * abs(math.log(setting.num_classes / num_classes))
    )


def similar_settings(
    measurements: Iterable[Measurement],
    noise_rate: float,
    num_examples: int,
    num_classes: int,
    equivalences: Sequence[Equivalence] = (),
) -> list[tuple[str, list[str]]]:
    """Return the most similar measured settings, with their stacks that need no privileged information.

    Args:
        measurements: finished runs.
        noise_rate: estimated noise rate of the given labels.
        num_examples: number of given labels.
        num_classes: number of their classes.
        equivalences: recorded equivalences of code.

    Returns:
        For each setting a heading, and one line for each of its best stacks and cross-entropy, best first.

    Example:
        >>> from noisybench.leaderboard.measurement_tables import builtin_measurements
        >>> len(similar_settings(builtin_measurements(), 0.4, 1000, 10))
        3
    """
    # Transfer tasks are left out: their methods act on a pre-trained backbone, which audited labels do not come with.
    candidates = [
        setting
        for setting in build_settings(measurements, equivalences=equivalences)
        if setting.description.metric == "accuracy"
        and not setting.description.task
        and setting.description.actual_noise_rate is not None
        and len(setting.rows) > 1
    ]
    candidates.sort(
        key=lambda setting: (
            setting_distance(setting.description, noise_rate, num_examples, num_classes),
            setting.title,
            setting.description.budget,
        )
    )
    return [(_heading(setting), _stack_lines(setting)) for setting in candidates[:MAX_SETTINGS]]


def _heading(setting: Setting) -> str:
    description = setting.description
    versions = sorted({measurement.version for row in setting.rows for measurement in row.measurements})
    return (
        f"{setting.title} ({description.actual_noise_rate:.0%} noise, {description.train_size} examples of "
        f"{description.num_classes} classes, {description.budget_text}; noisybench {', '.join(versions)})"
    )


def _stack_lines(setting: Setting) -> list[str]:
    lines: list[str] = []
    for row in setting.rows:
        # Audited labels come without privileged information; cross-entropy stays as the reference.
        if row.privileged or (len(lines) >= MAX_STACKS and row.stack != "cross_entropy"):
            continue
        rank = setting.ranking.ranks.get(row.stack)
        rank_text = f", rank {rank} of {len(setting.rows)}" if rank is not None else ""
        final = format_percent(row.scores["last"])
        lines.append(f"{row.stack}: {final} at the last epoch{rank_text}, {counted(len(row.measurements), 'seed')}")
    return lines
