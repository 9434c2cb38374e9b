"""Distortions of object contours."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from noisybench.noise_models._masks import MaskContext
from noisybench.noise_models._regions import MaskObject

FEWEST_VERTICES = 4
"""Vertices of the smallest contour that can be simplified; the published script drops smaller ones."""


def simplify_contours(item: MaskObject, tolerance: float, published: bool = False) -> MaskObject:
    """Return an object with polygons as contours; every object and every hole survives.

    Args:
        item: the object.
        tolerance: largest distance between polygon and contour, in pixels.
        published: fill holes and drop contours of fewer than four vertices, as the script of COCO-N does.
    """
    contours = _contours(item, with_holes=not published)
    if published:
        contours = [contour for contour in contours if len(contour) >= FEWEST_VERTICES]
    return _redraw(item, contours, lambda contour: _simplify(contour, tolerance))


def jitter_contours(
    item: MaskObject, deviation: float, context: MaskContext, spacing: float = 1.0, *, published: bool
) -> MaskObject:
    """Return an object whose contour vertices are displaced by normal noise.

    Args:
        item: the object.
        deviation: standard deviation of the displacement, in pixels.
        context: context of the image.
        spacing: tolerance of the polygon whose vertices are displaced, in pixels; at 0 every corner of the contour is
            displaced.
        published: fill holes and displace every corner, as the script of COCO-N does.
    """

    def jitter(contour: NDArray[np.int32]) -> NDArray[np.int32]:
        vertices = contour if published else _simplify(contour, spacing)
        displaced = vertices + deviation * context.stream.normal(*vertices.shape)
        # OpenCV fills polygons with int32 vertices only.
        return np.asarray(np.rint(displaced), dtype=np.int32)

    return _redraw(item, _contours(item, with_holes=not published), jitter)


def _simplify(contour: NDArray[np.int32], tolerance: float) -> NDArray[np.int32]:
    """Return the (V, 2) vertices of a contour that is simplified without collapsing.

    The algorithm of Douglas and Peucker alone reduces a contour that is smaller than the tolerance to one or two points.
    """
    if len(contour) < FEWEST_VERTICES or not tolerance:
        return contour
    polygon = shapely.simplify(shapely.Polygon(contour), tolerance, preserve_topology=True)
    # The vertices are some of the contour's own, so the conversion is exact.
    return np.asarray(shapely.get_coordinates(polygon), dtype=np.int32)


def _contours(item: MaskObject, with_holes: bool) -> list[NDArray[np.int32]]:
    """Return the (V, 2) corners, as columns and rows, of the outer contour and of the contours of holes."""
    mode = cv2.RETR_CCOMP if with_holes else cv2.RETR_EXTERNAL
    contours, _ = cv2.findContours(item.pixels, mode, cv2.CHAIN_APPROX_SIMPLE)
    return [np.asarray(contour, dtype=np.int32)[:, 0] for contour in contours]


def _redraw(
    item: MaskObject,
    contours: list[NDArray[np.int32]],
    change: Callable[[NDArray[np.int32]], NDArray[np.int32]],
) -> MaskObject:
    """Return an object with changed contours, filled by the even-odd rule, so that holes stay holes."""
    changed = [change(contour) for contour in contours]
    if not changed:
        return MaskObject(item.label, np.zeros((1, 1), dtype=np.uint8), item.top, item.left)
    # As large as the changed contours, so that no displacement is cut off.
    vertices = np.concatenate(changed)
    left, top = (int(value) for value in vertices.min(axis=0))
    width, height = (int(value) for value in vertices.max(axis=0) - (left, top) + 1)
    canvas = np.zeros((height, width), dtype=np.uint8)
    cv2.fillPoly(canvas, [vertices - (left, top) for vertices in changed], 1)
    return MaskObject(item.label, canvas, item.top + top, item.left + left)
