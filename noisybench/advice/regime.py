"""The regime of a label set: noise rate, structure of the errors, size and inputs, by which measured settings are compared."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.leaderboard.setting_description import SettingDescription
from noisybench.leaderboard.similar import setting_distance

Structure = Literal["concentrated", "spread"]
"""Errors of a class go mostly to one other class, or to several."""

STRUCTURES: dict[str, Structure] = {
    "pair_flip": "concentrated",
    "asymmetric": "concentrated",
    "asymmetric_index_block5": "concentrated",
    "symmetric_exclusive": "spread",
    "symmetric_inclusive": "spread",
    "asymmetric_superclass_uniform": "spread",
}
"""Structure of the errors by noise model; that of the others depends on the data."""

CONCENTRATED_SHARE = 0.5
"""Share of a class's errors in its most frequent incorrect class from which errors are called concentrated."""
OTHER_STRUCTURE, UNKNOWN_STRUCTURE = 0.15, 0.05
"""Distance of settings whose errors have another structure, or one that is unknown, in noise rates."""
OTHER_INPUTS = 0.3
"""Distance of settings on features from those on images, in noise rates."""


@dataclass(frozen=True)
class Regime:
    """Properties of a label set by which measured settings resemble it.

    Attributes:
        noise_rate: fraction of incorrect labels; None if there is no estimate.
        structure: structure of the errors; None if it is unknown.
        num_examples: number of labels.
        num_classes: number of classes.
        on_features: whether networks are trained on features of a backbone.
    """

    noise_rate: float | None
    structure: Structure | None
    num_examples: int
    num_classes: int
    on_features: bool


def regime_of(setting: SettingDescription, with_noise: bool = True) -> Regime:
    """Return the regime of a measured setting.

    Args:
        setting: measured setting.
        with_noise: False to leave out the noise, as if there were no estimate of it.

    Example:
        >>> from noisybench.leaderboard.measurement_tables import builtin_measurements
        >>> settings = [measurement.setting for measurement in builtin_measurements()]
        >>> regime_of(next(setting for setting in settings if setting.noise.startswith("pair_flip"))).structure
        'concentrated'
    """
    structure = STRUCTURES.get(setting.noise.partition("(")[0]) if with_noise else None
    rate = setting.actual_noise_rate if with_noise else None
    return Regime(rate, structure, setting.train_size, setting.num_classes, _on_features(setting))


def _on_features(setting: SettingDescription) -> bool:
    return setting.network == "features"


def structure_of(transition: NDArray[np.float64] | None) -> Structure | None:
    """Return the structure of the errors of an estimated transition matrix; None without errors or with two classes.

    Args:
        transition: (C, C) probability of the observed class (column) given the true class (row); None without an estimate.

    Example:
        >>> structure_of(np.array([[0.6, 0.4, 0.0], [0.0, 0.6, 0.4], [0.4, 0.0, 0.6]]))
        'concentrated'
        >>> structure_of(np.full((4, 4), 0.25))
        'spread'
    """
    if transition is None or len(transition) < 3:
        return None
    errors = transition * ~np.eye(len(transition), dtype=bool)
    if errors.sum() <= 0:
        return None
    # Classes count by their errors: the largest entry of a class with hardly any is chance.
    return "concentrated" if errors.max(1).sum() / errors.sum() > CONCENTRATED_SHARE else "spread"


def distance(setting: SettingDescription, regime: Regime) -> float:
    """Return the dissimilarity of a measured setting from a regime, in noise rates; an unknown rate is as near as any other.

    Example:
        >>> from noisybench.leaderboard.measurement_tables import builtin_measurements
        >>> setting = next(each.setting for each in builtin_measurements() if each.entry == "data-diet-digits")
        >>> distance(setting, regime_of(setting)), round(distance(setting, regime_of(setting, with_noise=False)), 2)
        (0.0, 0.05)
    """
    rate = setting.actual_noise_rate
    if rate is None:
        return math.inf
    total = setting_distance(
        setting, rate if regime.noise_rate is None else regime.noise_rate, regime.num_examples, regime.num_classes
    )
    structure = STRUCTURES.get(setting.noise.partition("(")[0])
    if structure is None or regime.structure is None:
        total += UNKNOWN_STRUCTURE if structure != regime.structure else 0.0
    elif structure != regime.structure:
        total += OTHER_STRUCTURE
    return total + (OTHER_INPUTS if _on_features(setting) != regime.on_features else 0.0)
