"""False objects."""

from __future__ import annotations

import numpy as np

from noisybench.config.parameters import parameter
from noisybench.data.targets import IGNORED
from noisybench.noise_models._masks import Mask, MaskContext, MaskNoise, MaskObject, find_objects, paste, transform


class Inclusion(MaskNoise):
    """Paste rotated objects from masks of other images on the background (Liu et al. 2024, for remote sensing).

    An image receives `count` false objects on average, each from another random image of the same split, at a random
    position. Objects that cover half of the image or more are not used.
    """

    stream_name = "inclusion"

    count: float = parameter(
        1.0, ge=0, low=0.2, high=3.0, help="Mean number of false objects per image", always_in_label=True
    )

    def corrupt_mask(self, mask: Mask, context: MaskContext) -> Mask:
        """Return the mask with false objects on its background."""
        noisy = mask.copy()
        height, width = mask.shape
        for _ in range(context.stochastic_round(context.severity * self.count)):
            donor = context.masks[context.randint(len(context.masks))]
            # `IGNORED` is greater than any class and would otherwise count as an object.
            donor = np.where(donor == IGNORED, np.uint8(0), donor)
            candidates = [item for item in find_objects(donor) if 2 * item.pixels.sum() < mask.size]
            # Drawn even without candidates, so that later objects do not depend on what this donor contains.
            draws = context.stream.uniform(4)
            if candidates:
                source = candidates[int(draws[0] * len(candidates))]
                row, column = int(draws[1] * height), int(draws[2] * width)
                item_height, item_width = source.pixels.shape
                centered = MaskObject(source.label, source.pixels, row - item_height // 2, column - item_width // 2)
                paste(noisy, transform(centered, 360 * float(draws[3]), 1.0, 0, 0))
        return noisy
