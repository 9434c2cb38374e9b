"""Contours of objects, and what becomes of them."""

from __future__ import annotations

import cv2
import numpy as np

from noisybench.noise_models._masks import Corruption, Object

MARGIN = 16
"""Around an object, so that it can grow."""


def approximated(each: Object, tolerance: float) -> Object:
    """An object whose contours are simplified by a tolerance in pixels (Douglas and Peucker 1973)."""
    contours = [cv2.approxPolyDP(contour, tolerance, True) for contour in _contours(each)]
    return _filled(each, contours)


def jittered(each: Object, deviation: float, given: Corruption, spacing: float = 1.0) -> Object:
    """An object whose contours' vertices have moved by normal numbers of a deviation in pixels."""
    contours = []
    for contour in _contours(each):
        points = cv2.approxPolyDP(contour, spacing, True)
        moved = points + deviation * given.stream.normal(*points.shape)
        contours.append(np.rint(moved).astype(np.int32))
    return _filled(each, contours)


def _contours(each: Object) -> list[np.ndarray]:
    padded = cv2.copyMakeBorder(each.shape, *(MARGIN,) * 4, cv2.BORDER_CONSTANT, value=0)
    found, _ = cv2.findContours(padded, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [np.asarray(contour) for contour in found]


def _filled(each: Object, contours: list[np.ndarray]) -> Object:
    """Contours filled by the even-odd rule, so that holes stay holes."""
    canvas = np.zeros([side + 2 * MARGIN for side in each.shape.shape], dtype=np.uint8)
    cv2.fillPoly(canvas, contours, 1)
    return Object(each.label, canvas, each.top - MARGIN, each.left - MARGIN)
