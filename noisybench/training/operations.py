"""Operations on images that RandAugment and AutoAugment choose from, as batches: each image has its own one.

The operations and their strengths are those of `torchvision.transforms.v2`; batches make no copy for which the host waits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

OPERATIONS = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate",
    "Brightness", "Color", "Contrast", "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize", "Invert",
)  # fmt: skip
"""Names of the operations; their positions here choose them. The first six are geometric."""

RAND_AUGMENT = OPERATIONS[:-1]
"""The operations of RandAugment."""

NUM_GEOMETRIC = 6
"""Number of geometric operations, which come first."""

STRENGTHS: dict[str, tuple[float, float, bool]] = {
    "ShearX": (0.0, 0.3, True),
    "ShearY": (0.0, 0.3, True),
    "TranslateX": (0.0, 150 / 331, True),
    "TranslateY": (0.0, 150 / 331, True),
    "Rotate": (0.0, 30.0, True),
    "Brightness": (1.0, 0.9, True),
    "Color": (1.0, 0.9, True),
    "Contrast": (1.0, 0.9, True),
    "Sharpness": (1.0, 0.9, True),
    "Posterize": (8.0, -4.0, False),
    "Solarize": (255.0, -255.0, False),
}
"""Strength at level 0, its change up to level 1, and True if that change may have either sign."""

GRAY = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in torchvision's gray."""

BLUR = ((1 / 13, 1 / 13, 1 / 13), (1 / 13, 5 / 13, 1 / 13), (1 / 13, 1 / 13, 1 / 13))
"""Kernel of the blurred image from which the sharpness departs."""


@functools.cache
def constant(values: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return numbers as a tensor that is copied to a device once: the host waits for the device at every such copy."""
    return torch.tensor(values, dtype=dtype, device=device)


def strengths(
    operations: NDArray[np.int64], levels: NDArray[np.float64] | float, signs: NDArray[np.int64], size: tuple[int, int]
) -> NDArray[np.float64]:
    """Return the strengths of operations in their own units: ratios, pixels, degrees, factors, bits or thresholds.

    Args:
        operations: (...) positions in `OPERATIONS`.
        levels: levels of the operations, from 0 to 1.
        signs: (...) 1 or -1, the direction of operations that have two.
        size: height and width of the images.

    >>> strengths(np.array([OPERATIONS.index("Rotate"), OPERATIONS.index("Posterize")]), 0.5, np.array([-1, -1]), (32, 32))
    array([-15.,   6.])
    """
    table = np.array([STRENGTHS.get(name, (0.0, 0.0, False)) for name in OPERATIONS], dtype=np.float64)[operations]
    values = table[..., 0] + table[..., 1] * levels * np.where(table[..., 2] > 0, signs, 1)
    height, width = size
    # Translations are by whole pixels, and bits are whole numbers.
    length = np.select(
        [operations == OPERATIONS.index(name) for name in ("TranslateX", "TranslateY")], [width, height], 1
    )
    is_whole = np.isin(operations, [OPERATIONS.index(name) for name in ("TranslateX", "TranslateY")])
    values = np.where(is_whole, np.trunc(values * length), values)
    result: NDArray[np.float64] = np.where(operations == OPERATIONS.index("Posterize"), np.round(values), values)
    return result


def apply_operations(images: Tensor, operations: NDArray[np.int64], values: NDArray[np.float64]) -> Tensor:
    """Return each of (B, C, H, W) uint8 images after one operation, as torchvision defines them.

    Geometric operations of all images are applied in one resampling; color operations one after the other, each to its
    images.

    Args:
        images: (B, C, H, W) uint8, with one channel or three.
        operations: (B,) positions in `OPERATIONS`.
        values: (B,) strengths of the operations, see `strengths`.

    >>> images = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)
    >>> apply_operations(images, np.array([OPERATIONS.index("Invert")]), np.array([0.0]))[0, 0, 0]
    tensor([255, 254, 253, 252], dtype=torch.uint8)
    """
    # Sorted on the host, where the choices are, so that each operation has a range of rows: a mask on the device would
    # have to be waited for, and so might the copies of many lists of rows.
    order = np.argsort(operations, kind="stable")
    places, back = torch.from_numpy(np.stack([order, np.argsort(order)])).to(images.device, non_blocking=True).unbind()
    # One copy of all numbers. A factor and its complement are rounded once each, as torchvision does.
    affine = _affine(images.shape[-2:], operations, values).reshape(-1, 6)
    numbers = np.column_stack([affine, values[order], 1 - values[order]]).astype(np.float32)
    on_device = torch.from_numpy(numbers).to(images.device, non_blocking=True)
    transformations, factors, rests = torch.split(on_device, [6, 1, 1], 1)
    grid = functional.affine_grid(transformations.view(-1, 2, 3), list(images.shape), align_corners=False)
    # The nearest pixel leaves images without a geometric operation exactly as they are.
    moved = functional.grid_sample(images.float(), grid, mode="nearest", align_corners=False)
    counts = np.bincount(operations, minlength=len(OPERATIONS)).tolist()
    sizes = [sum(counts[:NUM_GEOMETRIC]), *counts[NUM_GEOMETRIC:]]
    parts = (moved.to(torch.uint8)[places], factors.view(-1, 1, 1, 1), rests.view(-1, 1, 1, 1))
    # Split and joined once, because slices and copies of each operation are dozens of operators.
    unchanged, *groups = zip(*(torch.split(part, sizes) for part in parts), strict=True)
    colored = [apply(*group) for apply, group in zip(_color_operations(), groups, strict=True) if len(group[0])]
    return torch.cat([unchanged[0], *colored])[back]


def _affine(size: tuple[int, ...], operations: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (B, 2, 3) transformations of shears, translations and rotations of images with a height and a width.

    They map output to input coordinates, in units of half the image from its center.
    """
    height, width = size
    chosen = {name: operations == position for position, name in enumerate(OPERATIONS[:NUM_GEOMETRIC])}
    affine = np.tile(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), (len(operations), 1, 1))
    angle = np.deg2rad(values)
    # Half the width and half the height are different units, hence the aspect ratio in the mixed terms.
    affine[:, 0, 1] = np.select([chosen["ShearX"], chosen["Rotate"]], [values, -np.sin(angle)]) * height / width
    affine[:, 1, 0] = np.select([chosen["ShearY"], chosen["Rotate"]], [values, np.sin(angle)]) * width / height
    affine[:, 0, 0] = affine[:, 1, 1] = np.where(chosen["Rotate"], np.cos(angle), 1.0)
    # Shears keep the upper left corner fixed, not the center.
    affine[:, 0, 2] = np.select(
        [chosen["ShearX"], chosen["TranslateX"]], [values * height / width, -2 * values / width]
    )
    affine[:, 1, 2] = np.select(
        [chosen["ShearY"], chosen["TranslateY"]], [values * width / height, -2 * values / height]
    )
    return affine


def _color_operations() -> tuple[Callable[[Tensor, Tensor, Tensor], Tensor], ...]:
    """Return functions of uint8 images, their strengths and 1 - strengths, in the order of `OPERATIONS`."""
    from torchvision.transforms.v2 import functional as vision

    def without_strength(operation: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        return lambda images, factor, rest: operation(images)

    return (
        _adjust_brightness, _adjust_saturation, _adjust_contrast, _adjust_sharpness, _posterize, _solarize,
        without_strength(_autocontrast), without_strength(vision.equalize), without_strength(torch.bitwise_not),
    )  # fmt: skip


def _to_bytes(images: Tensor) -> Tensor:
    return images.clamp_(0, 255).to(torch.uint8)


def _gray(images: Tensor) -> Tensor:
    """Return (B, 1, H, W) float brightness in whole numbers."""
    if images.shape[1] == 1:
        return images.float()
    red, green, blue = images.unbind(1)
    gray = red.mul(GRAY[0]).add_(green, alpha=GRAY[1]).add_(blue, alpha=GRAY[2])
    return gray[:, None].floor_()


def _adjust_brightness(images: Tensor, factor: Tensor, rest: Tensor) -> Tensor:
    return _to_bytes(images * factor)


def _adjust_saturation(images: Tensor, factor: Tensor, rest: Tensor) -> Tensor:
    return images if images.shape[1] == 1 else _to_bytes((images * factor).addcmul_(_gray(images), rest))


def _adjust_contrast(images: Tensor, factor: Tensor, rest: Tensor) -> Tensor:
    return _to_bytes((images * factor).addcmul_(_gray(images).mean((1, 2, 3), keepdim=True), rest))


def _adjust_sharpness(images: Tensor, factor: Tensor, rest: Tensor) -> Tensor:
    if min(images.shape[2:]) <= 2:
        return images
    adjusted, channels = images.float(), images.shape[1]
    kernel = constant(BLUR, adjusted.dtype, images.device).expand(channels, 1, 3, 3)
    blurred = functional.conv2d(adjusted, kernel, groups=channels).round_()
    inside = adjusted[..., 1:-1, 1:-1]
    inside.addcmul_(blurred.sub_(inside), rest)
    return _to_bytes(adjusted)


def _posterize(images: Tensor, bits: Tensor, rest: Tensor) -> Tensor:
    # The lowest bits are cleared; a strength of 8 bits keeps all.
    return images & (256 - torch.exp2(8 - bits)).to(torch.uint8)


def _solarize(images: Tensor, threshold: Tensor, rest: Tensor) -> Tensor:
    return torch.where(images >= threshold, ~images, images)


def _autocontrast(images: Tensor) -> Tensor:
    """Return torchvision's bits, without its two masks in each call, for which the host waits."""
    low, high = (limit(images, (2, 3), keepdim=True).float() for limit in (torch.amin, torch.amax))
    # Constant channels stay as they are.
    scale = torch.where(high > low, (high - low) * (1 / 255), 1.0)
    shifted = images.float() - torch.where(high > low, low, 0.0)
    return _to_bytes(shifted.div_(scale))
