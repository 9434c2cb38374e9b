"""Objects from other images, and objects that are joined."""

from __future__ import annotations

import cv2
import numpy as np

from noisybench.noise_models._masks import MaskContext
from noisybench.noise_models._regions import MaskObject, transform


def draw_donor(context: MaskContext, shape: tuple[int, ...]) -> MaskObject | None:
    """Return a random object of a random image of the split, rotated, at a random position.

    Args:
        context: context of the image that receives the object.
        shape: height and width of the image.

    Returns:
        The object; None if the drawn image has none that covers less than half of it.
    """
    height, width = shape
    donor = context.donor_objects(context.randint(len(context.masks)))
    candidates = [item for item in donor if 2 * item.pixels.sum() < height * width]
    # Drawn even without candidates, so that later objects do not depend on what this donor contains.
    draws = context.stream.uniform(4)
    if not candidates:
        return None
    source = candidates[int(draws[0] * len(candidates))]
    row, column = int(draws[1] * height), int(draws[2] * width)
    item_height, item_width = source.pixels.shape
    centered = MaskObject(source.label, source.pixels, row - item_height // 2, column - item_width // 2)
    return transform(centered, 360 * float(draws[3]), 1.0, 0, 0)


def join(first: MaskObject, second: MaskObject) -> MaskObject:
    """Return an object of the first one's class that covers the convex hull of both.

    Example:
        >>> pixel = np.ones((1, 1), dtype=np.uint8)
        >>> join(MaskObject(3, pixel, 0, 0), MaskObject(3, pixel, 0, 2)).pixels
        array([[1, 1, 1]], dtype=uint8)
    """
    top, left = min(first.top, second.top), min(first.left, second.left)
    ends = [(item.top + item.pixels.shape[0], item.left + item.pixels.shape[1]) for item in (first, second)]
    canvas = np.zeros((max(end[0] for end in ends) - top, max(end[1] for end in ends) - left), dtype=np.uint8)
    for item in (first, second):
        rows, columns = item.top - top, item.left - left
        canvas[rows : rows + item.pixels.shape[0], columns : columns + item.pixels.shape[1]] |= item.pixels
    # Corners are x and y, the reverse of rows and columns.
    corners = np.ascontiguousarray(np.argwhere(canvas)[:, ::-1], dtype=np.int32)
    cv2.fillConvexPoly(canvas, cv2.convexHull(corners), 1)
    return MaskObject(first.label, canvas, top, left)
