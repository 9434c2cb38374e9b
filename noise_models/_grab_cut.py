"""Masks from bounding boxes, by GrabCut of OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from noisybench.noise_models._regions import Mask, find_objects
from noisybench.utils.seeds import Stream

ITERATIONS = 3


def masks_from_boxes(image: NDArray[np.uint8], mask: Mask, margin: float, stream: Stream) -> tuple[Mask, int]:
    """Return the (H, W) mask that GrabCut finds in the boxes of objects, and the number of boxes that are filled in.

    GrabCut (Rother et al. 2004) separates the colors inside of a box from those outside. The middle of a box, half as high
    and wide, counts as object from the start: without it, all of a gray image becomes background. A box is filled in
    completely if it is too small, or leaves too few pixels outside. Large objects are drawn first.

    Args:
        image: (C, H, W) image with one or three channels.
        mask: (H, W) clean mask without ignored pixels, of which only the boxes of objects are used.
        margin: largest distance in pixels of each side of a box from the object, drawn anew for every side.
        stream: random numbers.
    """
    colors = np.ascontiguousarray(np.broadcast_to(image.transpose(1, 2, 0), (*mask.shape, 3)))
    found, num_filled = np.zeros_like(mask), 0
    for item in sorted(find_objects(mask), key=lambda item: -int(item.pixels.sum())):
        top, left = item.top, item.left
        bottom, right = top + item.pixels.shape[0], left + item.pixels.shape[1]
        offsets = np.rint(margin * stream.uniform(4)).astype(int)
        top, left = max(top - offsets[0], 0), max(left - offsets[1], 0)
        bottom, right = min(bottom + offsets[2], mask.shape[0]), min(right + offsets[3], mask.shape[1])
        inside = _grab_cut(colors, (left, top, right - left, bottom - top))
        if inside is None:
            num_filled += 1
            inside = np.zeros(mask.shape, dtype=bool)
            inside[top:bottom, left:right] = True
        found[inside] = item.label
    return found, num_filled


def _grab_cut(colors: NDArray[np.uint8], box: tuple[int, int, int, int]) -> NDArray[np.bool_] | None:
    """Return the (H, W) pixels of the object in a box (x, y, width, height); None if there are too few pixels."""
    height, width = colors.shape[:2]
    # Each of the two color models has five components, which need at least as many pixels.
    if box[2] * box[3] < 16 or height * width - box[2] * box[3] < 16:
        return None
    left, top, box_width, box_height = box
    labels = np.full((height, width), cv2.GC_BGD, dtype=np.uint8)
    labels[top : top + box_height, left : left + box_width] = cv2.GC_PR_FGD
    rows, columns = box_height // 4, box_width // 4
    labels[top + rows : top + box_height - rows, left + columns : left + box_width - columns] = cv2.GC_FGD
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    # OpenCV starts its clusters from a generator of its own, which keeps its state between calls.
    cv2.setRNGSeed(0)
    # The whole image instead of a rectangle, which the labels replace.
    cv2.grabCut(colors, labels, (0, 0, width, height), background, foreground, ITERATIONS, cv2.GC_INIT_WITH_MASK)
    return np.asarray((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD))
