"""Misplaced objects."""

from __future__ import annotations

import math

import numpy as np

from noisybench.config.parameters import parameter
from noisybench.noise_models._masks import Corruption, Mask, MaskNoise, Object, objects, paste, remove, transformed


class AffineShift(MaskNoise):
    """Objects are moved, turned and scaled, and put on background alone (after Liu et al. 2024, for remote sensing).

    A move is up to `shift` of the object's greater side in a random direction, a turn up to `degrees`, and a factor from
    1 / `scale` to `scale`.
    """

    stream_name = "affine_shift"

    probability: float = parameter(1.0, ge=0, le=1, help="that an object is misplaced")
    shift: float = parameter(
        0.25, ge=0, le=2, low=0.05, high=0.5, help="greatest move, in greater sides", always_in_label=True
    )
    degrees: float = parameter(0.0, ge=0, le=180, help="greatest turn", always_in_label=True)
    scale: float = parameter(1.0, ge=1, le=4, help="greatest factor", always_in_label=True)

    def corrupt_mask(self, mask: Mask, given: Corruption) -> Mask:
        """Misplaced objects; where they were is background."""
        found, moved = mask.copy(), []
        for each in objects(mask):
            draws = given.stream.uniform(5)
            if draws[0] < self.probability:
                remove(found, each)
                moved.append(self.placed(each, draws, given.severity))
        for each in moved:
            paste(found, each)
        return found

    def placed(self, each: Object, draws: np.ndarray, severity: float) -> Object:
        """The object as it was misplaced, by numbers in [0, 1)."""
        height, width = each.shape.shape
        reach, direction = severity * self.shift * max(height, width) * draws[1], 2 * math.pi * draws[2]
        factor = math.exp(severity * (2 * draws[4] - 1) * math.log(self.scale))
        return transformed(
            each,
            severity * (2 * draws[3] - 1) * self.degrees,
            factor,
            reach * math.sin(direction),
            reach * math.cos(direction),
        )
