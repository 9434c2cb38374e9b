"""Shifted copies of test images: the same examples and labels from another distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.errors import UserError, nearest
from noisybench.utils.seeds import Stream

SHIFTS = {
    "rotation": "degrees, to either side at random",
    "noise": "standard deviation of Gaussian noise, as a share of the range of brightness",
    "translation": "pixels, in one of the four diagonal directions at random",
    "inversion": "",
}
"""Kinds of shift, and the amount that each takes after a colon."""


def shift(name: str, images: NDArray[Any]) -> NDArray[np.uint8]:
    """Shift images; the same for the same images on every machine but for rounding.

    Args:
        name: a kind of `SHIFTS` with its amount, such as ``rotation:15``.
        images: (N, C, H, W) uint8.

    Raises:
        UserError: there is no such shift, its amount is no positive number, or these are no images.
    """
    kind, _, text = name.partition(":")
    if kind not in SHIFTS:
        raise UserError(f"dataset.shifts: there is no shift `{kind}`; {nearest(kind, SHIFTS)}")
    try:
        amount = float(text) if SHIFTS[kind] or text else 1.0
    except ValueError:
        amount = math.nan
    if not (0 < amount < math.inf) or (text and not SHIFTS[kind]):
        wanted = f"`{kind}:AMOUNT`, a number above 0 ({SHIFTS[kind]})" if SHIFTS[kind] else f"`{kind}` alone"
        raise UserError(f"dataset.shifts: expected {wanted}, but got `{name}`")
    if images.dtype != np.uint8:
        raise UserError(f"dataset.shifts: `{name}` is for images; features come with shifted sets of their own")
    stream = Stream("shift", name)
    if kind == "inversion":
        return np.asarray(255 - images, dtype=np.uint8)
    if kind == "noise":
        found = images + 255 * amount * stream.normal(*images.shape)
    elif kind == "rotation":
        angle = np.deg2rad(amount) * np.where(stream.uniform(len(images)) < 0.5, -1, 1)
        found = _moved(images, angle, np.zeros((len(images), 2)))
    else:
        sign = np.where(stream.uniform(len(images), 2) < 0.5, -1, 1)
        found = _moved(images, np.zeros(len(images)), amount * sign)
    return np.clip(np.rint(found), 0, 255).astype(np.uint8)


def _moved(images: NDArray[Any], angle: NDArray[Any], offset: NDArray[Any]) -> NDArray[np.float64]:
    """Images turned by (N,) radians and moved by (N, 2) pixels to the right and down, black from outside."""
    import torch
    from torch.nn import functional

    height, width = images.shape[2:]
    cosine, sine = np.cos(angle), np.sin(angle)
    # Coordinates go from -1 to 1, so sides of unlike length stretch a rotation unless it is undone.
    matrix = np.stack(
        [
            np.stack([cosine, sine * height / width, -2 * offset[:, 0] / width], 1),
            np.stack([-sine * width / height, cosine, -2 * offset[:, 1] / height], 1),
        ],
        1,
    )
    grid = functional.affine_grid(torch.from_numpy(matrix), list(images.shape), align_corners=False)
    moved = functional.grid_sample(torch.from_numpy(images).double(), grid, align_corners=False)
    return np.asarray(moved.numpy())
