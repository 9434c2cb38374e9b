"""Distribution shifts of test images: the same examples and labels under another distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.errors import UserError, nearest
from noisybench.utils.seeds import Stream

SHIFTS = {
    "rotation": "degrees, clockwise or counterclockwise at random",
    "noise": "standard deviation of Gaussian noise, as a fraction of the brightness range",
    "translation": "pixels, in one of the four diagonal directions at random",
    "inversion": "",
}
"""Unit of the amount that follows the colon, by kind of shift; empty if a shift has no amount."""


def apply_shift(name: str, images: NDArray[Any]) -> NDArray[np.uint8]:
    """Return shifted images; equal on every machine up to rounding.

    Args:
        name: kind of shift and its amount, such as ``rotation:15``.
        images: (N, C, H, W) uint8.

    Returns:
        (N, C, H, W) uint8.

    Raises:
        UserError: the shift is unknown, its amount is not a positive number, or the inputs are not images.

    Examples:
        >>> apply_shift("inversion", np.array([[[[0, 255]]]], dtype=np.uint8))
        array([[[[255,   0]]]], dtype=uint8)
    """
    kind, amount = _parse(name)
    if images.dtype != np.uint8:
        raise UserError(f"dataset.test_shifts: `{name}` applies to images, not to features or texts; remove it")
    # The name alone seeds the stream: all runs are evaluated on the same shifted images, whatever their seed.
    stream = Stream("shift", name)
    if kind == "inversion":
        return np.asarray(255 - images, dtype=np.uint8)
    if kind == "noise":
        shifted = images + 255 * amount * stream.normal(*images.shape)
    elif kind == "rotation":
        angle = np.deg2rad(amount) * np.where(stream.uniform(len(images)) < 0.5, -1, 1)
        shifted = _warp(images, angle, np.zeros((len(images), 2)))
    else:
        sign = np.where(stream.uniform(len(images), 2) < 0.5, -1, 1)
        shifted = _warp(images, np.zeros(len(images)), amount * sign)
    return np.clip(np.rint(shifted), 0, 255).astype(np.uint8)


def _parse(name: str) -> tuple[str, float]:
    """Return the kind of a shift and its amount, 1 where it has none."""
    kind, _, text = name.partition(":")
    if kind not in SHIFTS:
        raise UserError(f"dataset.test_shifts: unknown shift `{kind}`; {nearest(kind, SHIFTS)}")
    unit = SHIFTS[kind]
    try:
        amount = float(text) if unit or text else 1.0
    except ValueError:
        amount = math.nan
    # NaN fails every comparison, so this also rejects amounts that are not numbers.
    if not (0 < amount < math.inf) or (text and not unit):
        expected = f"`{kind}:AMOUNT` with an amount above 0 ({unit})" if unit else f"`{kind}` without an amount"
        raise UserError(f"dataset.test_shifts: expected {expected}, but got `{name}`")
    return kind, amount


def _warp(images: NDArray[Any], angle: NDArray[Any], offset: NDArray[Any]) -> NDArray[np.float64]:
    """Rotate and translate images; pixels from outside are black.

    Args:
        images: (N, C, H, W).
        angle: (N,) radians.
        offset: (N, 2) pixels to the right and down.
    """
    import torch
    from torch.nn import functional

    height, width = images.shape[2:]
    cosine, sine = np.cos(angle), np.sin(angle)
    # Coordinates go from -1 to 1, so unequal sides would distort a rotation; the ratios undo that.
    matrix = np.stack(
        [
            np.stack([cosine, sine * height / width, -2 * offset[:, 0] / width], 1),
            np.stack([-sine * width / height, cosine, -2 * offset[:, 1] / height], 1),
        ],
        1,
    )
    # The grid maps output to input coordinates, hence the minus sign of the offsets. Without aligned corners -1 and 1
    # are the outer edges of the image, so one pixel is 2 / width.
    grid = functional.affine_grid(torch.from_numpy(matrix), list(images.shape), align_corners=False)
    # Double precision keeps differences between machines far below one level of brightness.
    warped = functional.grid_sample(torch.from_numpy(images).double(), grid, align_corners=False)
    return np.asarray(warped.numpy())
