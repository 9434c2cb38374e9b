"""Erosion and dilation by a distance."""

from __future__ import annotations

import cv2
import numpy as np

from noisybench.config.parameters import parameter
from noisybench.errors import UserError
from noisybench.noise_models._masks import Corruption, Mask, MaskNoise, classes_in


class MorphDistance(MaskNoise):
    """Every class grows or shrinks by a distance drawn for it (the setting of Yao et al. 2023 for chest radiographs)."""

    stream_name = "morph_distance"

    range: list[float] = parameter([3.0, 5.0], help="least and greatest distance in pixels", always_in_label=True)
    over: float = parameter(
        0.5, ge=0, le=1, low=0.0, high=1.0, help="probability that a class grows", always_in_label=True
    )

    def corrupt_mask(self, mask: Mask, given: Corruption) -> Mask:
        """Classes with a moved boundary; growing takes background alone."""
        if len(self.range) != 2 or not 0 <= self.range[0] <= self.range[1]:
            raise UserError(f"noise.range: needs two distances from 0 up, the first no greater, but got {self.range}")
        found = mask.copy()
        for label in classes_in(mask):
            over, distance = given.draw() < self.over, given.severity * given.between(*self.range)
            own = np.asarray(found == label, dtype=np.uint8)
            if over:
                outside = cv2.distanceTransform(1 - own, cv2.DIST_L2, 5)
                found[(outside <= distance) & (found == 0)] = label
            else:
                # Beyond the edge of the image an object may go on, so it is no boundary.
                inside = cv2.distanceTransform(own, cv2.DIST_L2, 5)
                found[(inside <= distance) & (own > 0)] = 0
        return found
