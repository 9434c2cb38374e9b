"""Erosion and dilation in proportion to the size of each class."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.errors import UserError
from noisybench.noise_models._masks import MaskContext, MaskNoise, in_turn
from noisybench.noise_models._regions import Mask, grow, present_classes, replace_class


class MorphScaled(MaskNoise):
    """Shrink or grow all classes of an image in proportion to their size (Liu et al. 2022, for SegTHOR).

    A class is scaled to an area of about `target_area` pixels, eroded or dilated by a 3x3 square for one of `iterations`
    (drawn once for all classes of an image, smallest class first), and scaled back. Classes grow on background only.
    The authors' code sets every pixel that the processed mask has changed to background, which cubic resizing can also
    do to neighboring pixels; `literal` reproduces that.
    """

    stream_name = "morph_scaled"
    fidelity = Fidelity(
        reference="https://github.com/Kangningthu/ADELE",
        commit="7195bd0af39be79c533d67dd7eab7f9bfd6a4285",
        license="MIT",
        compared="12 masks of four organs, some at the edge of the image, in both modes with 2, 3 and 4 iterations; how "
        "often each is drawn",
        difference="0 pixels with literal=true and the authors' order of classes, 0 also without literal=true on these masks",
        golden=("morph_scaled",),
        deviations=(
            Deviation(
                "classes change by increasing area in the image; the authors' order is that of the organs of SegTHOR",
                "any classes; `class_order` gives the authors'",
                "pixels between touching classes; none with class_order=[1,3,4,2]",
            ),
            Deviation(
                "without literal=true, erosion removes pixels of the class itself alone; the authors' code also "
                "clears what cubic resizing adds",
                "an artifact of resizing",
                "none on the compared masks; with literal=true none at all",
            ),
        ),
    )

    iterations: list[int] = parameter(
        [2, 3, 4], help="Numbers of iterations, one of which is drawn for each image", always_in_label=True
    )
    over: float = parameter(
        0.5, ge=0, le=1, low=0.0, high=1.0, help="Probability that the classes of an image grow", always_in_label=True
    )
    target_area: int = parameter(1000, ge=16, help="Number of pixels to which a class is scaled")
    class_order: list[int] | None = parameter(None, help="Order in which classes change (default: smallest area first)")
    literal: bool = parameter(False, help="Clear every differing pixel when eroding, as the authors' code does")

    def corrupt_mask(self, mask: Mask, context: MaskContext) -> Mask:
        """Return the mask with classes that have grown or shrunk."""
        if not self.iterations or min(self.iterations) < 0:
            raise UserError(f"noise.iterations: needs integers from 0, but got {self.iterations}")
        sign = 1 if context.random() < self.over else -1
        iterations = self.iterations[context.randint(len(self.iterations))]
        amount = sign * context.stochastic_round(context.severity * iterations)
        noisy, present = mask.copy(), present_classes(mask)
        if self.literal and not context.has_background:
            raise UserError(
                "noise.literal: clears pixels to the background, which this dataset does not have; set it to false"
            )
        listed = present if self.class_order is None else [label + context.class_offset for label in self.class_order]
        for label, neighbors in in_turn(noisy, [label for label in listed if label in present], context):
            region = np.asarray(noisy == label, dtype=np.uint8)
            changed = self._grow_scaled(region, amount)
            if sign > 0:
                replace_class(noisy, label, region, region | changed, neighbors)
            elif self.literal:
                noisy[changed != region] = 0
            else:
                # Cubic resizing can also add pixels, which shrinking must not.
                replace_class(noisy, label, region, region & changed, neighbors)
        return noisy

    def _grow_scaled(self, region: NDArray[np.uint8], amount: int) -> NDArray[np.uint8]:
        """Return a region that was dilated or eroded at the target area."""
        # Areas grow with the square of the side. `literal` can erase a class before its turn, which leaves an area of
        # 0.
        scale = math.sqrt(self.target_area / max(1, int(region.sum())))
        height, width = (max(1, round(side * scale)) for side in region.shape)
        scaled = cv2.resize(region, (width, height), interpolation=cv2.INTER_CUBIC)
        changed = grow((scaled > 0).astype(np.uint8), amount)
        restored = cv2.resize(changed, region.shape[::-1], interpolation=cv2.INTER_CUBIC)
        return np.asarray(restored > 0, dtype=np.uint8)
