"""Operations on the objects and regions of masks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

Mask = NDArray[np.uint8]
"""(H, W) class indices; 0 is the background."""

SQUARE = np.ones((3, 3), np.uint8)
"""Neighborhood of dilation and erosion."""


@dataclass(frozen=True)
class MaskObject:
    """One connected component.

    Attributes:
        label: its class.
        pixels: (h, w) uint8, 1 inside the object, within its bounding box.
        top: first row of the bounding box.
        left: first column of the bounding box.
    """

    label: int
    pixels: NDArray[np.uint8]
    top: int
    left: int


def present_classes(mask: Mask) -> list[int]:
    """Return the foreground classes of a mask, smallest area first.

    Examples:
        >>> present_classes(np.array([[0, 2, 2], [0, 2, 1]], dtype=np.uint8))
        [1, 2]
    """
    sizes = np.bincount(mask.ravel())
    # Stable, so that equally large classes use the random numbers in the same order on every machine.
    return [int(label) for label in np.argsort(sizes, kind="stable") if label and sizes[label]]


def find_objects(mask: Mask, instances: NDArray[np.uint16] | None = None) -> Iterator[MaskObject]:
    """Yield every instance, or every connected component of every foreground class, ordered by class and first pixel.

    Args:
        mask: (H, W) classes.
        instances: (H, W) number of the instance of each pixel, 0 for none; None for connected components of 8 neighbors.

    Examples:
        >>> mask = np.array([[1, 0, 0], [0, 0, 1], [0, 0, 1]], dtype=np.uint8)
        >>> [(item.top, item.left, item.pixels.shape) for item in find_objects(mask)]
        [(0, 0, (1, 1)), (1, 2, (2, 1))]
        >>> [item.pixels.tolist() for item in find_objects(mask, np.array([[4, 0, 0], [0, 0, 4], [0, 0, 0]], dtype=np.uint16))]
        [[[1, 0, 0], [0, 0, 1]]]
    """
    if instances is not None:
        yield from _find_instances(mask, instances)
        return
    for label in range(1, int(mask.max(initial=0)) + 1):
        region = np.asarray(mask == label, dtype=np.uint8)
        first_column, first_row, width, height = cv2.boundingRect(region)
        if not width:
            continue
        # Components are searched in the bounding box of the class, as most classes cover a small part of the image.
        region = region[first_row : first_row + height, first_column : first_column + width]
        count, components, boxes, _ = cv2.connectedComponentsWithStats(region, connectivity=8)
        for component in range(1, count):
            left, top, width, height = (int(value) for value in boxes[component, :4])
            box = components[top : top + height, left : left + width]
            yield MaskObject(label, np.asarray(box == component, dtype=np.uint8), first_row + top, first_column + left)


def _find_instances(mask: Mask, instances: NDArray[np.uint16]) -> Iterator[MaskObject]:
    """Yield every instance with a foreground class, ordered like connected components."""
    foreground = (instances > 0) & (mask > 0)
    # Positions in reading order, so that the first one of each number is its first pixel.
    numbers, first = np.unique(np.where(foreground, instances, 0), return_index=True)
    labels = mask.ravel()[first]
    for position in np.lexsort((first, labels)).tolist():
        if not numbers[position]:
            continue
        pixels = (foreground & (instances == numbers[position])).astype(np.uint8)
        left, top, width, height = cv2.boundingRect(pixels)
        yield MaskObject(int(labels[position]), pixels[top : top + height, left : left + width], top, left)


def erase(mask: Mask, item: MaskObject) -> None:
    """Turn an object into background, in place."""
    height, width = item.pixels.shape
    region = mask[item.top : item.top + height, item.left : item.left + width]
    # Only pixels that still have the class: others in the bounding box may have changed already.
    region[(item.pixels > 0) & (region == item.label)] = 0


def paste(mask: Mask, item: MaskObject) -> None:
    """Draw an object on the background, in place; parts outside of the image are cut off."""
    # Negative positions would count from the end of the array.
    top, left = max(0, item.top), max(0, item.left)
    pixels = item.pixels[top - item.top :, left - item.left :]
    region = mask[top : top + pixels.shape[0], left : left + pixels.shape[1]]
    pixels = pixels[: region.shape[0], : region.shape[1]]
    region[(pixels > 0) & (region == 0)] = item.label


def paint(canvas: NDArray[Any], item: MaskObject, value: int, allowed: NDArray[np.bool_]) -> None:
    """Set the pixels of an object to a value where it is allowed, in place; parts outside of the image are cut off."""
    # Negative positions would count from the end of the array.
    top, left = max(0, item.top), max(0, item.left)
    pixels = item.pixels[top - item.top :, left - item.left :]
    window = slice(top, top + pixels.shape[0]), slice(left, left + pixels.shape[1])
    region = canvas[window]
    region[(pixels[: region.shape[0], : region.shape[1]] > 0) & allowed[window]] = value


def fill_nearest(mask: Mask, missing: NDArray[np.bool_]) -> Mask:
    """Return a mask in which missing pixels have the class of the nearest other pixel; unchanged if there is none.

    Args:
        mask: (H, W) classes.
        missing: (H, W) truth values.

    Examples:
        >>> fill_nearest(np.array([[1, 9, 9, 9, 2]], dtype=np.uint8), np.array([[False, True, True, True, False]]))[0, 1:4:2]
        array([1, 2], dtype=uint8)
    """
    if missing.all() or not missing.any():
        return mask
    rows, columns = distance_transform_edt(missing, return_distances=False, return_indices=True)
    return np.asarray(mask[rows, columns])


def grow(pixels: NDArray[np.uint8], amount: int) -> NDArray[np.uint8]:
    """Return a binary mask dilated ``amount`` times by a 3x3 square, or eroded if negative.

    The edge of the array is no boundary: an object may continue beyond the edge of the image, so it is not eroded there.

    Examples:
        >>> grow(np.array([[1, 1, 1, 0, 0]], dtype=np.uint8), -1)
        array([[1, 1, 0, 0, 0]], dtype=uint8)
    """
    if not amount:
        return pixels
    # OpenCV's default border never erodes from the edge of the array.
    change = cv2.dilate if amount > 0 else cv2.erode
    return np.asarray(change(pixels, SQUARE, iterations=abs(amount)))


def bounding_box(pixels: NDArray[np.uint8], margin: int) -> tuple[slice, slice]:
    """Return rows and columns of the bounding box of a binary mask, with a margin inside of the image."""
    left, top, width, height = cv2.boundingRect(pixels)
    return slice(max(0, top - margin), top + height + margin), slice(max(0, left - margin), left + width + margin)


def replace_class(
    mask: Mask,
    label: int,
    before: NDArray[np.uint8] | NDArray[np.bool_],
    after: NDArray[np.uint8] | NDArray[np.bool_],
    neighbors: NDArray[np.bool_] | None = None,
) -> None:
    """Change the region of a class, in place.

    Lost pixels become background, and only background is gained. If there are neighbors, lost pixels take the class of the
    nearest other pixel, and only pixels of neighbors are lost to them or gained from them.
    """
    lost = (before > 0) & (after == 0) & (mask == label)
    if neighbors is None:
        mask[lost] = 0
        mask[(after > 0) & (mask == 0)] = label
        return
    gained = (after > 0) & neighbors[mask]
    nearest = fill_nearest(mask, mask == label)
    lost &= neighbors[nearest]
    mask[lost] = nearest[lost]
    mask[gained] = label


def transform(item: MaskObject, degrees: float, factor: float, down: float, right: float) -> MaskObject:
    """Return an object rotated and scaled around its center, and moved by some pixels."""
    height, width = item.pixels.shape
    top, left = item.top + round(down), item.left + round(right)
    # Resampling can change pixels even without rotation, so a mere translation copies them.
    if abs(degrees) < 1e-9 and abs(factor - 1) < 1e-9:
        return MaskObject(item.label, item.pixels, top, left)
    # The diagonal fits the object at any angle; two more pixels allow for rounding.
    side = math.ceil(math.hypot(height, width) * max(1.0, factor)) + 2
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, factor)
    matrix[:, 2] += ((side - width) / 2, (side - height) / 2)
    pixels = cv2.warpAffine(item.pixels, matrix, (side, side), flags=cv2.INTER_NEAREST)
    return MaskObject(
        item.label, np.asarray(pixels), top - round((side - height) / 2), left - round((side - width) / 2)
    )
