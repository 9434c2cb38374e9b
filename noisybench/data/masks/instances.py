"""Instance masks: the number of the object to which each pixel of a mask belongs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noisybench.data.geometry import Placement
from noisybench.data.masks.values import read_values
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError

MAX_INSTANCE = 2**16 - 1
"""Largest number of an instance, that of images with 16 bits."""

MAX_LISTED = 5
"""Largest number of files that a message lists."""

Instances = NDArray[np.uint16]
"""(N, H, W) number of the object of each pixel; 0 for none. Numbers are those of one image."""


def read_instances(files: Sequence[Path], placements: Sequence[Placement]) -> Instances:
    """Return the instance numbers of each example, in its size, by nearest neighbor.

    Args:
        files: instance mask of the source image of each example: a gray image of 8 or 16 bits, or a palette.
        placements: place of each example in its source image.

    Raises:
        UserError: a file is missing or damaged, is in color, or has another size than its image.
    """
    instances = []
    for file, placement in zip(files, placements, strict=True):
        values = read_values(file, as_colors=False)
        if values.shape != placement.source:
            raise UserError(
                f"{file}: has {values.shape[1]}x{values.shape[0]} pixels, but its image {placement.source[1]}x"
                f"{placement.source[0]}; resize it with nearest neighbor"
            )
        if values.min() < 0 or values.max() > MAX_INSTANCE:
            raise UserError(
                f"{file}: contains the value {values.max()}, but numbers of instances range from 1 to {MAX_INSTANCE}, and 0 "
                "means no instance; number the objects of each image from 1"
            )
        instances.append(placement.mask(values.astype(np.uint16), outside=0))
    return np.stack(instances)


def check_instances(
    instances: Instances, masks: NDArray[np.uint8], names: Sequence[str], class_names: Sequence[str], location: str
) -> None:
    """Refuse instance masks without instances, and instances that are no objects of one class.

    Args:
        instances: (N, H, W) instance numbers.
        masks: (N, H, W) classes of the same images.
        names: (N,) names of the images.
        class_names: names of the classes.
        location: parameter and folder for error messages.

    Raises:
        UserError: no pixel belongs to an instance, or an instance has pixels of several classes, or all instance masks
            equal the class masks.

    Example:
        >>> mask = np.array([[[0, 1, 2]]], dtype=np.uint8)
        >>> check_instances(np.array([[[0, 7, 7]]], dtype=np.uint16), mask, ["a"], ["sky", "cat", "dog"], "instances")
        Traceback (most recent call last):
        noisybench.errors.UserError: instances: a: instance 7 has pixels of the classes cat and dog, but an instance has ...
    """
    if not instances.any():
        raise UserError(
            f"{location}: no instance mask contains an instance: all values are 0; number the objects of each image from 1, "
            "or remove the folder"
        )
    problems = []
    for name, numbers, mask in zip(names, instances, masks, strict=True):
        inside = (numbers > 0) & (mask != IGNORED)
        # One number for each pair of an instance and a class.
        pairs = np.unique(numbers[inside].astype(np.int64) * (IGNORED + 1) + mask[inside])
        owners, counts = np.unique(pairs // (IGNORED + 1), return_counts=True)
        for owner in owners[counts > 1][:1].tolist():
            classes = [class_names[int(pair % (IGNORED + 1))] for pair in pairs if pair // (IGNORED + 1) == owner]
            problems.append(
                f"{location}: {name}: instance {owner} has pixels of the classes {' and '.join(classes[:MAX_LISTED])}, but an "
                "instance has one class; correct the masks, or give each object a number of its own"
            )
    if problems:
        more = [f"… and {len(problems) - MAX_LISTED} more images"] if len(problems) > MAX_LISTED else []
        raise UserError(*problems[:MAX_LISTED], *more)
