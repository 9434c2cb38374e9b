"""A boundary that wanders."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.noise_models._masks import SQUARE, Corruption, Mask, MaskNoise, box, classes_in, replace_class


class MarkovBoundary(MaskNoise):
    """Every class's boundary takes random steps outwards and inwards (Yao et al. 2023).

    In each of `steps` steps the class expands with probability `expand`, else it shrinks: every pixel just beyond (or within)
    its boundary changes with probability `flip`. Then any pixel near it flips with probability `speckle`, and a Gaussian
    blur (5 pixels, deviation 2) with a threshold of one half smooths the result. With `expand` unlike 0.5 the noise is
    biased. Published settings are 100 to 200 steps, expand 0.8 or 0.2, flip 0.02 or 0.05, speckle 0.2.
    """

    stream_name = "markov_boundary"

    steps: int = parameter(20, ge=0, help="number of steps", always_in_label=True)
    expand: float = parameter(
        0.5, ge=0, le=1, low=0.2, high=0.8, help="probability that a step goes outwards", always_in_label=True
    )
    flip: float = parameter(0.25, ge=0, le=1, help="probability that a boundary pixel changes in a step")
    speckle: float = parameter(0.0, ge=0, le=1, help="probability that a pixel flips before the blur")

    def corrupt_mask(self, mask: Mask, given: Corruption) -> Mask:
        """Classes with other boundaries; growing takes background alone."""
        found = mask.copy()
        steps = given.whole(given.severity * self.steps)
        for label in classes_in(mask):
            own = np.asarray(found == label, dtype=np.uint8)
            # Within the steps that are likely, a boundary moves no farther.
            margin = 4 + int(3 * np.sqrt(max(1, steps)) * self.flip + abs(2 * self.expand - 1) * steps * self.flip)
            rows, columns = box(own, margin)
            after = own.copy()
            after[rows, columns] = self._wandered(own[rows, columns].copy(), steps, given)
            replace_class(found, label, own, after)
        return found

    def _wandered(self, shape: NDArray[np.uint8], steps: int, given: Corruption) -> NDArray[np.uint8]:
        for each in given.stream.chance(self.expand, steps).tolist():
            moved = np.asarray(cv2.dilate(shape, SQUARE) if each else cv2.erode(shape, SQUARE), dtype=np.uint8)
            shape ^= (moved ^ shape) & given.stream.chance(self.flip, *shape.shape).view(np.uint8)
        if self.speckle:
            shape ^= given.stream.chance(self.speckle * min(1.0, given.severity), *shape.shape).view(np.uint8)
        blurred = cv2.GaussianBlur(shape.astype(np.float32), (5, 5), 2.0)
        return np.asarray(blurred > 0.5, dtype=np.uint8)
