"""Missing objects."""

from __future__ import annotations

import numpy as np

from noisybench.config.parameters import parameter
from noisybench.errors import UserError
from noisybench.noise_models._masks import Corruption, Mask, MaskNoise, objects, remove


class Omission(MaskNoise):
    """Whole objects are missing; each image draws its share of them from `rates` (Liu et al. 2024, for remote sensing)."""

    stream_name = "omission"

    rates: list[float] = parameter(
        [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6], help="one of these is drawn for each image", always_in_label=True
    )

    def corrupt_mask(self, mask: Mask, given: Corruption) -> Mask:
        """The mask without some of its objects; a share that is no whole number of them is rounded at random."""
        if not self.rates or not all(0 <= each <= 1 for each in self.rates):
            raise UserError(f"noise.rates: needs shares from 0 to 1, but got {self.rates}")
        found, present = mask.copy(), list(objects(mask))
        rate = min(1.0, given.severity * self.rates[given.one_of(len(self.rates))])
        count = min(len(present), given.whole(rate * len(present)))
        for place in np.sort(given.stream.permutation(len(present))[:count]):
            remove(found, present[place])
        return found
