"""Distortions of object contours."""

from __future__ import annotations

import cv2
import numpy as np

from noisybench.noise_models._masks import MaskContext, MaskObject

MARGIN = 16
"""Pixels around an object into which it can grow."""


def simplify_contours(item: MaskObject, tolerance: float) -> MaskObject:
    """Return an object with polygons as contours (Douglas and Peucker 1973).

    Args:
        item: the object.
        tolerance: largest distance between polygon and contour, in pixels.
    """
    return _fill(item, [cv2.approxPolyDP(contour, tolerance, True) for contour in _contours(item)])


def jitter_contours(item: MaskObject, deviation: float, context: MaskContext, spacing: float = 1.0) -> MaskObject:
    """Return an object whose contour vertices are displaced by normal noise.

    Args:
        item: the object.
        deviation: standard deviation of the displacement, in pixels.
        context: context of the image.
        spacing: tolerance of the polygon whose vertices are displaced, in pixels.
    """
    contours = []
    for contour in _contours(item):
        vertices = cv2.approxPolyDP(contour, spacing, True)
        displaced = vertices + deviation * context.stream.normal(*vertices.shape)
        # OpenCV fills polygons with int32 vertices only; the shape is (V, 1, 2).
        contours.append(np.rint(displaced).astype(np.int32))
    return _fill(item, contours)


def _contours(item: MaskObject) -> list[np.ndarray]:
    # An object fills its bounding box, so the padding gives displaced vertices room to move outwards.
    padded = cv2.copyMakeBorder(item.pixels, *(MARGIN,) * 4, cv2.BORDER_CONSTANT, value=0)
    # CCOMP also returns the contours of holes, which the outer contours alone would fill.
    contours, _ = cv2.findContours(padded, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [np.asarray(contour) for contour in contours]


def _fill(item: MaskObject, contours: list[np.ndarray]) -> MaskObject:
    """Fill contours by the even-odd rule, so that holes stay holes."""
    canvas = np.zeros([side + 2 * MARGIN for side in item.pixels.shape], dtype=np.uint8)
    cv2.fillPoly(canvas, contours, 1)
    return MaskObject(item.label, canvas, item.top - MARGIN, item.left - MARGIN)
