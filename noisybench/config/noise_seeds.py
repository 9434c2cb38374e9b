"""Draws of noise: the settings of a suite with several seeds of their noise models."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from noisybench.errors import UserError

FIXED_NOISE = ("clean", "from_file", "from_folder", "human", "real_world")
"""Noise models whose labels do not depend on their seed; `from_file` draws votes of annotators only if it is asked to."""


def with_noise_seeds(settings: Iterable[Mapping[str, Any]], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Return each setting with each seed of its noise model, seeds outermost; settings whose labels are fixed stay single.

    Args:
        settings: task, dataset and noise of each setting.
        seeds: seeds of the noise; without any, the settings stay as they are.

    Raises:
        UserError: a noise model has a seed of its own.

    Example:
        >>> with_noise_seeds([{"noise": "pair_flip"}, {"noise": "clean"}], [0, 1])
        [{'noise': {'name': 'pair_flip', 'seed': 0}}, {'noise': 'clean'}, {'noise': {'name': 'pair_flip', 'seed': 1}}]
    """
    draws: list[list[dict[str, Any]]] = []
    for setting in settings:
        noise = setting.get("noise", "clean")
        fields = {"name": noise} if isinstance(noise, str) else noise
        # Anything but a name or a mapping is refused where the specification is resolved.
        if not seeds or not isinstance(fields, Mapping) or _is_fixed(fields):
            draws.append([dict(setting)])
            continue
        if "seed" in fields:
            raise UserError(
                f"noise_seeds: the noise model {fields.get('name')} has the seed {fields['seed']} already; "
                "give its seed, or the seeds of all noise models with `noise_seeds`"
            )
        draws.append([{**setting, "noise": {**fields, "seed": seed}} for seed in seeds])
    # An interrupted suite has all settings of the first draw.
    return [setting for drawn in itertools.zip_longest(*draws) for setting in drawn if setting is not None]


def _is_fixed(noise: Mapping[str, Any]) -> bool:
    return noise.get("name") in FIXED_NOISE and noise.get("annotators") != "draw"
