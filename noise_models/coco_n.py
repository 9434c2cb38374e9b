"""Mixtures of contour noise and wrong classes."""

from __future__ import annotations

from typing import Literal

import numpy as np

from noisybench.config.parameters import parameter
from noisybench.noise_models._contours import approximated, jittered
from noisybench.noise_models._masks import Corruption, Mask, MaskNoise, Object, grown, objects, paste, remove

LEVELS = {
    "easy": (0.2, 5.0, 2.0, 3, 0.2),
    "medium": (0.25, 10.0, 3.0, 5, 0.3),
    "hard": (0.3, 15.0, 4.0, 7, 0.4),
}
"""Probability of each of the three kinds, tolerance, deviation, width of the square, rate of wrong classes."""


class CocoN(MaskNoise):
    """For each object one of a coarse polygon, an unsteady contour, a changed size, or none; and a wrong class (COCO-N).

    After the levels of Kimhi et al. 2024: `easy`, `medium` and `hard` have probability 0.2, 0.25 and 0.3 of each kind,
    tolerances of 5, 10 and 15 pixels, deviations of 2, 3 and 4, squares of 3, 5 and 7, and classes drawn anew with
    probability 0.2, 0.3 and 0.4. Unlike their script, which draws from two generators, all draws come from one.
    """

    stream_name = "coco_n"

    level: Literal["easy", "medium", "hard"] = parameter(
        "medium", help="of the published mixtures", always_in_label=True
    )

    def corrupt_mask(self, mask: Mask, given: Corruption) -> Mask:
        """Changed objects; growing takes background alone."""
        probability, tolerance, deviation, width, rate = LEVELS[self.level]
        found, changed = mask.copy(), []
        for each in objects(mask):
            draws, severity = given.stream.uniform(4), given.severity
            kind = int(draws[0] // (probability * min(1.0, severity)))
            label = each.label
            if draws[1] < rate * min(1.0, severity):
                label = 1 + int(draws[2] * (given.classes - 1))
            after = each
            if kind == 0:
                after = approximated(each, severity * tolerance)
            elif kind == 1:
                after = jittered(each, severity * deviation, given)
            elif kind == 2:
                after = _resized(each, max(1, round(severity * (width // 2))) * (1 if draws[3] < 0.5 else -1))
            remove(found, each)
            changed.append(Object(label, after.shape, after.top, after.left))
        for each in changed:
            paste(found, each)
        return found


def _resized(each: Object, amount: int) -> Object:
    """An object dilated or eroded by a square."""
    margin = abs(amount)
    return Object(each.label, grown(np.pad(each.shape, margin), amount), each.top - margin, each.left - margin)
