"""False objects."""

from __future__ import annotations

import numpy as np

from noisybench.config.parameters import parameter
from noisybench.data.targets import IGNORED
from noisybench.noise_models._masks import Corruption, Mask, MaskNoise, Object, objects, paste, transformed


class Inclusion(MaskNoise):
    """Objects of other images' masks stand, turned, where there is nothing (Liu et al. 2024, for remote sensing).

    An image is given `count` such objects on average, each of another random image of the same split, at a random place.
    Objects of the size of half of the image and more are not taken.
    """

    stream_name = "inclusion"

    count: float = parameter(
        1.0, ge=0, low=0.2, high=3.0, help="false objects of an image on average", always_in_label=True
    )

    def corrupt_mask(self, mask: Mask, given: Corruption) -> Mask:
        """The mask with false objects on its background."""
        found = mask.copy()
        for _ in range(given.whole(given.severity * self.count)):
            donor = given.masks[given.one_of(len(given.masks))]
            donor = np.where(donor == IGNORED, np.uint8(0), donor)
            candidates = [each for each in objects(donor) if 2 * each.shape.sum() < mask.size]
            draws = given.stream.uniform(4)
            if candidates:
                chosen = candidates[int(draws[0] * len(candidates))]
                height, width = mask.shape
                row, column = int(draws[1] * height), int(draws[2] * width)
                middle = Object(
                    chosen.label, chosen.shape, row - chosen.shape.shape[0] // 2, column - chosen.shape.shape[1] // 2
                )
                paste(found, transformed(middle, 360 * float(draws[3]), 1.0, 0, 0))
        return found
