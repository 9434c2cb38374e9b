"""Erosion, dilation and ragged edges by discs."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.errors import UserError
from noisybench.noise_models._masks import Corruption, Mask, MaskNoise, classes_in, replace_class


class MorphDisc(MaskNoise):
    """Each class is dilated, eroded or given a ragged edge, a third each (Zhang et al. 2020, for chest radiographs).

    Dilation and erosion are by a disc whose radius is drawn from `radius`. For a ragged edge, every edge pixel is with
    probability one half the centre of a disc of random radius below the greater one, painted as the class or as background.
    """

    stream_name = "morph_disc"

    radius: list[float] = parameter([3.0, 6.0], help="least and greatest radius in pixels", always_in_label=True)
    corrupted_fraction: float = parameter(
        0.5, ge=0, le=1, help="share of the images that are corrupted", always_in_label=True
    )

    def corrupt_mask(self, mask: Mask, given: Corruption) -> Mask:
        """Classes with another boundary; growing takes background alone."""
        if len(self.radius) != 2 or not 0 < self.radius[0] <= self.radius[1]:
            raise UserError(f"noise.radius: needs two radii above 0, the first no greater, but got {self.radius}")
        found = mask.copy()
        for label in classes_in(mask):
            own = np.asarray(found == label, dtype=np.uint8)
            kind, radius = given.one_of(3), given.severity * given.between(*self.radius)
            if kind == 2:
                replace_class(found, label, own, _ragged(own, given.severity * self.radius[1], given))
                continue
            size = given.whole(radius)
            disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * size + 1, 2 * size + 1))
            replace_class(found, label, own, np.asarray(cv2.dilate(own, disc) if kind == 0 else cv2.erode(own, disc)))
        return found


def _ragged(own: NDArray[np.uint8], greatest: float, given: Corruption) -> NDArray[np.uint8]:
    """A class with discs added and cut out along its edge."""
    rows, columns = np.nonzero(cv2.Canny(own * np.uint8(255), 100, 200))
    chosen = given.stream.uniform(len(rows)) < 0.5
    rows, columns, changed = rows[chosen], columns[chosen], own.copy()
    radii, paint = given.stream.uniform(len(rows)) * greatest, given.stream.uniform(len(rows)) < 0.5
    for row, column, radius, value in zip(*(each.tolist() for each in (rows, columns, radii, paint)), strict=True):
        cv2.circle(changed, (column, row), int(radius), int(value), -1)
    return changed
