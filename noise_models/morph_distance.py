"""Growth or shrinkage of classes by a distance."""

from __future__ import annotations

import cv2
import numpy as np

from noisybench.config.parameters import parameter
from noisybench.errors import UserError
from noisybench.noise_models._masks import Mask, MaskContext, MaskNoise, present_classes


class MorphDistance(MaskNoise):
    """Grow or shrink each class by a random distance (the setting of Yao et al. 2023 for chest radiographs)."""

    stream_name = "morph_distance"

    range: list[float] = parameter([3.0, 5.0], help="Smallest and largest distance, in pixels", always_in_label=True)
    over: float = parameter(
        0.5, ge=0, le=1, low=0.0, high=1.0, help="Probability that a class grows", always_in_label=True
    )

    def corrupt_mask(self, mask: Mask, context: MaskContext) -> Mask:
        """Return the mask with moved boundaries; classes grow on background only."""
        if len(self.range) != 2 or not 0 <= self.range[0] <= self.range[1]:
            raise UserError(f"noise.range: needs two distances from 0 in increasing order, but got {self.range}")
        noisy = mask.copy()
        for label in present_classes(mask):
            grows, distance = context.random() < self.over, context.severity * context.uniform(*self.range)
            region = np.asarray(noisy == label, dtype=np.uint8)
            if grows:
                # OpenCV measures the distance to the nearest zero, so the region is inverted to measure outside of it.
                outside = cv2.distanceTransform(1 - region, cv2.DIST_L2, 5)
                noisy[(outside <= distance) & (noisy == 0)] = label
            else:
                # An object may continue beyond the edge of the image, so that edge is not a boundary.
                inside = cv2.distanceTransform(region, cv2.DIST_L2, 5)
                noisy[(inside <= distance) & (region > 0)] = 0
        return noisy
