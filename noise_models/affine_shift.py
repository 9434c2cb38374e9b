"""Misplaced objects: random translation, rotation and scaling."""

from __future__ import annotations

import math

import numpy as np

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.noise_models._masks import MaskContext, MaskNoise, draw_objects
from noisybench.noise_models._regions import Mask, MaskObject, erase, transform


class AffineShift(MaskNoise):
    """Move, rotate and scale objects; they are drawn on background only (after Liu et al. 2024, for remote sensing).

    The translation is at most `shift` times the object's longer side in a random direction, the rotation at most
    `degrees`, and the scaling factor between 1 / `scale` and `scale`.
    """

    stream_name = "affine_shift"
    fidelity = Fidelity(
        reference="https://github.com/zhu-xlab/AIO2",
        commit="d59fdc28cfca7507163bee0d406e21fd54132450",
        license="MIT",
        compared="an object shifted by 20 pairs of whole pixels and rotated by 12 angles; directions of 600 drawn shifts",
        difference="0 pixels for the same shift or angle",
        golden=("aio2",),
        deviations=(
            Deviation(
                "a distance of at most `shift` times the longer side in a random direction; the authors draw rows "
                "and columns alone, each up to half of the longer side, at least 6 pixels",
                "one bound for all directions",
                "standard deviation of each coordinate .20 of the longer side at shift=.5, .10 at the default of "
                ".25, instead of .30",
            ),
            Deviation(
                "rotation of at most `degrees` in either direction, 0 by default; the authors draw 10 to 350 "
                "degrees for objects that are rotated",
                "small errors of placement by default",
                "degrees=180 has all angles",
            ),
            Deviation(
                "every object is shifted, rotated and scaled; the authors give an object one kind of noise, erosion"
                " and dilation by rectangles included, for a fraction of the objects that is drawn from 0 to .6",
                "noise of one kind can be measured alone",
                "a setting; `probability` has a fixed fraction",
            ),
            Deviation(
                "an object is drawn on background only and cut off at the edge of the image; the authors add masks",
                "one label for each pixel",
                "none for one class",
            ),
        ),
    )

    probability: float = parameter(1.0, ge=0, le=1, help="Probability that an object is misplaced")
    shift: float = parameter(
        0.25,
        ge=0,
        le=2,
        low=0.05,
        high=0.5,
        help="Largest translation, relative to the object's longer side",
        always_in_label=True,
    )
    degrees: float = parameter(0.0, ge=0, le=180, help="Largest rotation, in degrees", always_in_label=True)
    scale: float = parameter(1.0, ge=1, le=4, help="Largest scaling factor", always_in_label=True)

    def corrupt_mask(self, mask: Mask, context: MaskContext) -> Mask:
        """Return the mask with misplaced objects and background in their former places."""
        noisy, misplaced = mask.copy(), []
        for item in context.objects(mask):
            # For every object, moved or not, so that the parameters never shift the numbers of later objects.
            draws = context.stream.uniform(5)
            if draws[0] < self.probability:
                erase(noisy, item)
                misplaced.append(self._misplace(item, draws, context.severity))
        # After all objects are erased, so that one can move to the former place of another.
        draw_objects(noisy, mask, misplaced, context)
        return noisy

    def _misplace(self, item: MaskObject, draws: np.ndarray, severity: float) -> MaskObject:
        """Return the object in its new place, which random numbers in [0, 1) decide."""
        distance = severity * self.shift * max(item.pixels.shape) * draws[1]
        direction = 2 * math.pi * draws[2]
        # Uniform in the logarithm, so that growing and shrinking are equally likely.
        factor = math.exp(severity * (2 * draws[4] - 1) * math.log(self.scale))
        degrees = severity * (2 * draws[3] - 1) * self.degrees
        return transform(item, degrees, factor, distance * math.sin(direction), distance * math.cos(direction))
