"""Erosion and dilation in proportion to the object's size."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.errors import UserError
from noisybench.noise_models._masks import Corruption, Mask, MaskNoise, classes_in, grown, replace_class


class MorphScaled(MaskNoise):
    """Every class of an image shrinks, or every one grows, in proportion to its size (Liu et al. 2022, for SegTHOR).

    A class is brought to an area of about `target_area` pixels, eroded or dilated by a square of 3 for one of `iterations`
    (one draw for all classes of an image, from the smallest class on), and brought back. Growing takes background alone.
    The authors' code makes every pixel background that the processed mask has changed, which cubic resizing can do
    to neighbours; `literal` does so as well.
    """

    stream_name = "morph_scaled"

    iterations: list[int] = parameter([2, 3, 4], help="one of these is drawn for each image", always_in_label=True)
    over: float = parameter(
        0.5, ge=0, le=1, low=0.0, high=1.0, help="probability that an image's classes grow", always_in_label=True
    )
    target_area: int = parameter(1000, ge=16, help="pixels to which a class is brought before")
    class_order: list[int] | None = parameter(
        None, help="classes in the order in which they change; by default small first"
    )
    literal: bool = parameter(False, help="as in the authors' code, erosion clears whatever differs")

    def corrupt_mask(self, mask: Mask, given: Corruption) -> Mask:
        """Grown or shrunk classes."""
        if not self.iterations or min(self.iterations) < 0:
            raise UserError(f"noise.iterations: needs whole numbers from 0 up, but got {self.iterations}")
        sign = 1 if given.draw() < self.over else -1
        amount = sign * given.whole(given.severity * self.iterations[given.one_of(len(self.iterations))])
        found, present = mask.copy(), classes_in(mask)
        order = present if self.class_order is None else [each for each in self.class_order if each in present]
        for label in order:
            own = np.asarray(found == label, dtype=np.uint8)
            changed = self._scaled(own, amount)
            if sign > 0:
                found[(changed > 0) & (found == 0)] = label
            elif self.literal:
                found[changed != own] = 0
            else:
                replace_class(found, label, own, own & changed)
        return found

    def _scaled(self, own: NDArray[np.uint8], amount: int) -> NDArray[np.uint8]:
        scale = math.sqrt(self.target_area / max(1, int(own.sum())))
        height, width = (max(1, round(side * scale)) for side in own.shape)
        large = cv2.resize(own, (width, height), interpolation=cv2.INTER_CUBIC)
        back = cv2.resize(grown((large > 0).astype(np.uint8), amount), own.shape[::-1], interpolation=cv2.INTER_CUBIC)
        return np.asarray(back > 0, dtype=np.uint8)
