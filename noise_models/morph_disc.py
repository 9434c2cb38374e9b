"""Dilation, erosion and ragged edges by discs."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.errors import UserError
from noisybench.noise_models._masks import Mask, MaskContext, MaskNoise, present_classes, replace_class

DILATE, ERODE, RAGGED = range(3)


class MorphDisc(MaskNoise):
    """Dilate each class, erode it, or make its edge ragged, with equal probability (Zhang et al. 2020).

    Dilation and erosion use a disc with a radius drawn from `radius`. For a ragged edge, every edge pixel is with
    probability one half the center of a disc of random radius below the larger one, drawn as the class or as background.
    The setting was published for chest radiographs.
    """

    stream_name = "morph_disc"

    radius: list[float] = parameter([3.0, 6.0], help="Smallest and largest radius, in pixels", always_in_label=True)
    corrupted_fraction: float = parameter(
        0.5, ge=0, le=1, help="Fraction of the images to corrupt", always_in_label=True
    )

    def corrupt_mask(self, mask: Mask, context: MaskContext) -> Mask:
        """Return the mask with changed boundaries; classes grow on background only."""
        if len(self.radius) != 2 or not 0 < self.radius[0] <= self.radius[1]:
            raise UserError(f"noise.radius: needs two radii above 0 in increasing order, but got {self.radius}")
        noisy = mask.copy()
        for label in present_classes(mask):
            region = np.asarray(noisy == label, dtype=np.uint8)
            kind, radius = context.randint(3), context.severity * context.uniform(*self.radius)
            if kind == RAGGED:
                changed = _make_ragged(region, context.severity * self.radius[1], context)
            else:
                size = context.stochastic_round(radius)
                disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * size + 1, 2 * size + 1))
                changed = np.asarray(cv2.dilate(region, disc) if kind == DILATE else cv2.erode(region, disc))
            replace_class(noisy, label, region, changed)
        return noisy


def _make_ragged(region: NDArray[np.uint8], max_radius: float, context: MaskContext) -> NDArray[np.uint8]:
    """Return a region with discs added and removed along its edge."""
    # Canny expects brightness from 0 to 255; a difference of 1 would be below its thresholds.
    rows, columns = np.nonzero(cv2.Canny(region * np.uint8(255), 100, 200))
    chosen = context.stream.uniform(len(rows)) < 0.5
    rows, columns, changed = rows[chosen], columns[chosen], region.copy()
    radii = (context.stream.uniform(len(rows)) * max_radius).tolist()
    values = (context.stream.uniform(len(rows)) < 0.5).tolist()
    for row, column, radius, value in zip(rows.tolist(), columns.tolist(), radii, values, strict=True):
        cv2.circle(changed, (column, row), int(radius), int(value), -1)
    return changed
