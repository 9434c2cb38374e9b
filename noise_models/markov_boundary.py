"""Markov boundary noise: random steps of class boundaries."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.noise_models._masks import (
    SQUARE,
    Mask,
    MaskContext,
    MaskNoise,
    bounding_box,
    present_classes,
    replace_class,
)


class MarkovBoundary(MaskNoise):
    """Move the boundary of each class by random steps outwards and inwards (Yao et al. 2023).

    In each of `steps` steps the class expands with probability `expand` and shrinks otherwise: every pixel just outside
    (or inside) the boundary changes with probability `flip`. Then pixels near it flip with probability `speckle`, and a
    Gaussian blur (5 pixels, standard deviation 2) with a threshold of one half smooths the result. If `expand` is not 0.5,
    the noise is biased. Published settings are 100 to 200 steps, expand 0.8 or 0.2, flip 0.02 or 0.05, speckle 0.2.
    """

    stream_name = "markov_boundary"

    steps: int = parameter(20, ge=0, help="Number of steps", always_in_label=True)
    expand: float = parameter(
        0.5, ge=0, le=1, low=0.2, high=0.8, help="Probability that a step goes outwards", always_in_label=True
    )
    flip: float = parameter(0.25, ge=0, le=1, help="Probability that a boundary pixel changes in a step")
    speckle: float = parameter(0.0, ge=0, le=1, help="Probability that a pixel flips before the blur")

    def corrupt_mask(self, mask: Mask, context: MaskContext) -> Mask:
        """Return the mask with moved boundaries; classes grow on background only."""
        noisy = mask.copy()
        steps = context.stochastic_round(context.severity * self.steps)
        for label in present_classes(mask):
            region = np.asarray(noisy == label, dtype=np.uint8)
            # Only this margin is simulated: three standard deviations of the random walk plus its drift.
            margin = 4 + int(3 * np.sqrt(max(1, steps)) * self.flip + abs(2 * self.expand - 1) * steps * self.flip)
            rows, columns = bounding_box(region, margin)
            moved = region.copy()
            moved[rows, columns] = self._walk(region[rows, columns].copy(), steps, context)
            replace_class(noisy, label, region, moved)
        return noisy

    def _walk(self, region: NDArray[np.uint8], steps: int, context: MaskContext) -> NDArray[np.uint8]:
        """Return a region after the random steps of its boundary, and the smoothing."""
        # Directions are drawn before the flips, whose number depends on the size of the region.
        for outwards in context.stream.chance(self.expand, steps).tolist():
            moved = np.asarray(cv2.dilate(region, SQUARE) if outwards else cv2.erode(region, SQUARE), dtype=np.uint8)
            # Only pixels that the step would change can flip. A view of the booleans avoids a copy in each step.
            region ^= (moved ^ region) & context.stream.chance(self.flip, *region.shape).view(np.uint8)
        if self.speckle:
            probability = self.speckle * min(1.0, context.severity)
            region ^= context.stream.chance(probability, *region.shape).view(np.uint8)
        blurred = cv2.GaussianBlur(region.astype(np.float32), (5, 5), 2.0)
        return np.asarray(blurred > 0.5, dtype=np.uint8)
