"""Facets by which the settings of the page are filtered, as short values for people."""

from __future__ import annotations

import re

from noisybench.leaderboard.display_names import short_name
from noisybench.leaderboard.setting_description import SettingDescription, without_parameters


def facets(description: SettingDescription, is_submitted: bool) -> dict[str, str]:
    """Return the value of each facet of a setting; values are the same for settings that differ in nothing of the facet.

    Args:
        description: the setting.
        is_submitted: whether all of its runs come from submissions.

    Example:
        >>> from noisybench.leaderboard.measurement_tables import builtin_measurements
        >>> settings = [measurement.setting for measurement in builtin_measurements()]
        >>> setting = next(each for each in settings if each.noise == "pair_flip(rate=0.4)")
        >>> facets(setting, True)["noise"], facets(setting, True)["rate"]
        ('pair_flip', '40 %')
    """
    nominal = re.search(r"\brate=([\d.]+)", description.noise)
    rate = float(nominal[1]) if nominal else description.actual_noise_rate
    return {
        "dataset": short_name(description.dataset),
        "noise": short_name(without_parameters(description.noise, ["rate", "seed"])),
        "rate": "unknown" if rate is None else f"{100 * rate:.3g} %",
        "network": description.budget_text,
        "task": short_name(description.task) or "classification",
        "source": "submitted" if is_submitted else "mine",
    }
