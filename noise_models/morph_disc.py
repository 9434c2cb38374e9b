"""Dilation, erosion and ragged edges by discs."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.errors import UserError
from noisybench.noise_models._masks import MaskContext, MaskNoise, in_turn, with_preset
from noisybench.noise_models._regions import Mask, present_classes, replace_class

DILATE, ERODE, RAGGED = range(3)

PRESETS = {
    "jsrt_clavicle": {"radius": [5.0, 10.0]},
    "jsrt_heart": {"radius": [14.0, 20.0]},
    "jsrt_lung": {"radius": [20.0, 30.0]},
}
"""Radii of Zhang et al. 2020, for images of 256x256 pixels; `corrupted_fraction` is 0.3, 0.5 and 0.7 there."""


class MorphDisc(MaskNoise):
    """Dilate each class, erode it, or make its edge ragged, with equal probability (Zhang et al. 2020).

    Dilation and erosion use a disc with an integer radius drawn from `radius`. For a ragged edge, every edge pixel is
    with probability one half the center of a disc of random radius below the larger one, drawn as the class or as
    background. `preset` has the published radii, for chest radiographs of 256x256 pixels.
    """

    stream_name = "morph_disc"
    fidelity = Fidelity(
        reference="https://github.com/502463708/Confident_Learning_for_Noisy-labeled_Medical_Image_Segmentation",
        commit="8445951b3ab1051913c28783e69523ef8a6450e9",
        license="not stated",
        compared="6 masks dilated and eroded by radii of 1 to 6, and with ragged edges from the same random numbers; how "
        "often each kind is drawn",
        difference="0 pixels",
        golden=("morph_disc",),
        deviations=(
            Deviation(
                "each kind has probability 1/3; the authors' are .33, .33 and .34",
                "equal shares",
                "at most .007 in a probability",
            ),
            Deviation(
                "each image is corrupted with the probability `corrupted_fraction`; the authors corrupt exactly "
                "that fraction",
                "an image's noise does not depend on other images",
                "the fraction varies by its binomial error",
            ),
            Deviation(
                "a mask has several classes, each of which grows on background only; the authors corrupt one binary"
                " mask for each organ",
                "one label for each pixel",
                "none for one class; else the pixels that two noisy classes would share",
            ),
        ),
    )

    preset: Literal["default", "jsrt_clavicle", "jsrt_heart", "jsrt_lung"] = parameter(
        "default", help="Published value of the radius, or your own"
    )
    radius: list[float] = parameter(
        [3.0, 6.0], help="Smallest and largest radius, in whole pixels", always_in_label=True
    )
    corrupted_fraction: float = parameter(
        0.5, ge=0, le=1, help="Fraction of the images to corrupt", always_in_label=True
    )

    def corrupt_mask(self, mask: Mask, context: MaskContext) -> Mask:
        """Return the mask with changed boundaries; classes grow on background only."""
        radii = with_preset(self, PRESETS)["radius"]
        if len(radii) != 2 or not 0 < radii[0] <= radii[1] or any(radius % 1 for radius in radii):
            raise UserError(
                f"noise.radius: needs two radii above 0 in increasing order, in whole pixels, but got {radii}"
            )
        noisy = mask.copy()
        for label, neighbors in in_turn(noisy, present_classes(mask), context):
            region = np.asarray(noisy == label, dtype=np.uint8)
            kind, radius = context.randint(3), radii[0] + context.randint(int(radii[1] - radii[0]) + 1)
            if kind == RAGGED:
                changed = make_ragged(region, context.severity * radii[1], context)
            else:
                disc = make_disc(context.stochastic_round(context.severity * radius))
                # OpenCV never erodes from the edge of the image, beyond which an object may continue.
                changed = np.asarray(cv2.dilate(region, disc) if kind == DILATE else cv2.erode(region, disc))
            replace_class(noisy, label, region, changed, neighbors)
        return noisy


def make_disc(radius: int) -> NDArray[np.uint8]:
    """Return the (2 radius + 1, 2 radius + 1) pixels within a radius of the center.

    Examples:
        >>> make_disc(1)
        array([[0, 1, 0],
               [1, 1, 1],
               [0, 1, 0]], dtype=uint8)
    """
    offsets = np.arange(-radius, radius + 1)
    return np.asarray(offsets[:, None] ** 2 + offsets**2 <= radius**2, dtype=np.uint8)


def make_ragged(region: NDArray[np.uint8], max_radius: float, context: MaskContext) -> NDArray[np.uint8]:
    """Return a region with discs added and removed along its edge."""
    # Canny expects brightness from 0 to 255; a difference of 1 would be below its thresholds.
    rows, columns = np.nonzero(cv2.Canny(region * np.uint8(255), 64, 200))
    chosen = context.stream.uniform(len(rows)) < 0.5
    rows, columns, changed = rows[chosen], columns[chosen], region.copy()
    radii = (context.stream.uniform(len(rows)) * max_radius).tolist()
    values = (context.stream.uniform(len(rows)) < 0.5).tolist()
    for row, column, radius, value in zip(rows.tolist(), columns.tolist(), radii, values, strict=True):
        cv2.circle(changed, (column, row), int(radius), int(value), -1)
    return changed
