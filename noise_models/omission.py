"""Missing objects."""

from __future__ import annotations

import numpy as np

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.errors import UserError
from noisybench.noise_models._masks import MaskContext, MaskNoise
from noisybench.noise_models._regions import Mask, erase


class Omission(MaskNoise):
    """Remove whole objects; the fraction of each image is drawn from `rates` (Liu et al. 2024, for remote sensing)."""

    stream_name = "omission"
    fidelity = Fidelity(
        reference="https://github.com/zhu-xlab/AIO2",
        commit="d59fdc28cfca7507163bee0d406e21fd54132450",
        license="MIT",
        compared="objects that vanish from 4 masks with 3 to 9 objects at a rate of .4",
        difference="whole objects; as many as in the authors' code, or one more",
        golden=("aio2",),
        deviations=(
            Deviation(
                "the number of missing objects is rounded at random; the authors round down",
                "the mean rate is the one that is asked for, also in images of few objects",
                "rate .40 instead of .29 to .40 in images of 3 to 9 objects; in images of one object 0 in the "
                "authors' code",
            ),
            Deviation(
                "an object is a connected component of 8 neighbors of one class, as the authors' outer contours are",
                "any number of classes",
                "none for one class",
            ),
        ),
    )

    rates: list[float] = parameter(
        [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
        help="Fractions of missing objects, one of which is drawn for each image",
        always_in_label=True,
    )

    def corrupt_mask(self, mask: Mask, context: MaskContext) -> Mask:
        """Return the mask without some of its objects; fractional numbers of objects are rounded at random."""
        if not self.rates or not all(0 <= rate <= 1 for rate in self.rates):
            raise UserError(f"noise.rates: needs fractions from 0 to 1, but got {self.rates}")
        noisy, present = mask.copy(), list(context.objects(mask))
        rate = min(1.0, context.severity * self.rates[context.randint(len(self.rates))])
        count = min(len(present), context.stochastic_round(rate * len(present)))
        # The start of one random order: with the same seed a higher severity removes a superset.
        for number in np.sort(context.stream.permutation(len(present))[:count]):
            erase(noisy, present[number])
        return noisy
