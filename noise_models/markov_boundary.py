"""Markov boundary noise: random steps of class boundaries."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.noise_models._masks import MaskContext, MaskNoise, in_turn, with_preset
from noisybench.noise_models._regions import Mask, bounding_box, present_classes, replace_class
from noisybench.utils.seeds import Stream

CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
"""A pixel and its four neighbors: the pixels at a distance of one."""

PRESETS = {
    "jsrt_expand": {"steps": 180, "expand": 0.8, "flip": 0.05, "speckle": 0.2},
    "jsrt_shrink": {"steps": 180, "expand": 0.2, "flip": 0.05, "speckle": 0.2},
    "jsrt_clavicle_expand": {"steps": 100, "expand": 0.8, "flip": 0.02, "speckle": 0.2},
    "jsrt_clavicle_shrink": {"steps": 100, "expand": 0.2, "flip": 0.02, "speckle": 0.2},
    "isic_expand": {"steps": 200, "expand": 0.8, "flip": 0.05, "speckle": 0.2},
    "isic_shrink": {"steps": 200, "expand": 0.2, "flip": 0.05, "speckle": 0.2},
}
"""Settings of Yao et al. 2023, Table 1: J1, J2 (heart and lung; clavicle), I2 and I1."""


class MarkovBoundary(MaskNoise):
    """Move the boundary of each class by random steps outwards and inwards (Yao et al. 2023).

    In each of `steps` steps the class expands with probability `expand` and shrinks otherwise: every pixel just outside
    (or inside) the boundary changes with probability `flip`. Then every pixel flips with probability `speckle`, and a
    Gaussian blur (5 pixels, standard deviation 2) with a threshold of one half smooths the result. If `expand` is not
    0.5, the noise is biased. `preset` has the published settings, for images of 256x256 pixels (JSRT) and for ISIC 2017.
    """

    stream_name = "markov_boundary"
    fidelity = Fidelity(
        reference="https://github.com/michaelofsbu/SpatialCorrection",
        commit="49aae60fc67ec1a9f42a99b46e8c887f1f70737b",
        license="not stated",
        compared="8 masks from the same random numbers; mean Dice and area of 12 draws for an ellipse of 100x80 in 256x256 "
        "pixels at the four settings of JSRT",
        difference="0 pixels on the same numbers; .007 in the mean Dice, .02 in the mean area of draws of its own",
        golden=("markov_boundary",),
        deviations=(
            Deviation(
                "a mask has several classes, each of which grows on background only, smallest first; the authors corrupt "
                "one binary mask for each organ",
                "one label for each pixel",
                "none for one class; else the pixels that two noisy classes would share",
            ),
            Deviation(
                "a class that has vanished or fills the image stays so; in the authors' code it grows from a corner of the "
                "image, where SciPy reports a distance without a pixel to measure it to",
                "an artifact",
                "none before a class has vanished or fills the image",
            ),
            Deviation(
                "steps are 20, expand .5, flip .25 and speckle 0 by default instead of a published setting",
                "unbiased noise of images of any size; presets have the published settings",
                "none with a preset",
            ),
        ),
    )

    preset: Literal[
        "default",
        "jsrt_expand",
        "jsrt_shrink",
        "jsrt_clavicle_expand",
        "jsrt_clavicle_shrink",
        "isic_expand",
        "isic_shrink",
    ] = parameter("default", help="Published values of steps, expand, flip and speckle, or your own")
    steps: int = parameter(20, ge=0, help="Number of steps", always_in_label=True)
    expand: float = parameter(
        0.5, ge=0, le=1, low=0.2, high=0.8, help="Probability that a step goes outwards", always_in_label=True
    )
    flip: float = parameter(0.25, ge=0, le=1, help="Probability that a boundary pixel changes in a step")
    speckle: float = parameter(0.0, ge=0, le=1, help="Probability that a pixel flips before the blur")

    def corrupt_mask(self, mask: Mask, context: MaskContext) -> Mask:
        """Return the mask with moved boundaries; classes grow on background only."""
        settings = with_preset(self, PRESETS)
        noisy = mask.copy()
        steps = context.stochastic_round(context.severity * settings["steps"])
        speckle = settings["speckle"] * min(1.0, context.severity)
        for label, neighbors in in_turn(noisy, present_classes(mask), context):
            region = np.asarray(noisy == label, dtype=np.uint8)
            outwards = context.stream.uniform(steps) < settings["expand"]
            moved = move_boundary(region, outwards, settings["flip"], context.stream)
            if speckle:
                moved ^= np.asarray(context.stream.uniform(*region.shape) < speckle, dtype=np.uint8)
            # In integers, whose result is the same on every machine.
            blurred = cv2.GaussianBlur(moved * np.uint8(255), (5, 5), 2.0)
            replace_class(noisy, label, region, np.asarray(blurred > 127, dtype=np.uint8), neighbors)
        return noisy


def move_boundary(
    region: NDArray[np.uint8], outwards: NDArray[np.bool_], flip: float, stream: Stream
) -> NDArray[np.uint8]:
    """Return a region after random steps of its boundary.

    Args:
        region: (H, W) 1 inside; it must not be empty.
        outwards: direction of each step.
        flip: probability that a boundary pixel changes in a step.
        stream: random numbers, one for each boundary pixel and step, row by row.
    """
    moved = region.copy()
    # Exact: a boundary moves by at most one pixel in a step outwards, and one more pixel shows steps inwards where the
    # outside is. Numbers are drawn for boundary pixels alone, so they do not depend on the box either.
    box = bounding_box(region, int(outwards.sum()) + 1)
    inside = np.ascontiguousarray(moved[box])
    pixels = inside.reshape(-1)
    for outward in outwards.tolist():
        # The edge of the image is no boundary.
        stepped = cv2.dilate(inside, CROSS) if outward else cv2.erode(inside, CROSS)
        boundary = np.flatnonzero(stepped != inside)
        pixels[boundary[stream.uniform(len(boundary)) < flip]] ^= 1
    moved[box] = inside
    return moved
