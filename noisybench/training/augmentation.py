"""Batched augmentation: a batch of uint8 images at once on the training device, with independent draws per image."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


def crop_and_flip(images: Tensor, generator: torch.Generator, *, flip: bool) -> Tensor:
    """Return random crops after zero padding by an eighth of the height, with random horizontal flips.

    Args:
        images: (B, C, H, W), any dtype.
        generator: random numbers on the device of the images.
        flip: mirror each image with probability one half.

    Returns:
        (B, C, H, W) of the same dtype.

    >>> images = torch.ones(2, 3, 8, 8, dtype=torch.uint8)
    >>> crop_and_flip(images, torch.Generator().manual_seed(0), flip=True).shape
    torch.Size([2, 3, 8, 8])
    """
    count, channels, height, width = images.shape
    padding = max(1, height // 8)
    padded = functional.pad(images, (padding,) * 4)
    # One draw for all three decisions launches fewer kernels than three draws.
    draw = torch.rand((3, count, 1), generator=generator, device=images.device)
    offset = (draw[:2] * (2 * padding + 1)).long()
    rows = offset[0] + torch.arange(height, device=images.device)
    columns = offset[1] + torch.arange(width, device=images.device)
    if flip:
        columns = torch.where(draw[2] < 0.5, columns.flip(1), columns)
    # One gather with flat positions crops and flips all images together.
    positions = rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]
    source = padded.reshape(count, channels, -1)
    return source.gather(2, positions.reshape(count, 1, -1).expand(-1, channels, -1)).reshape(images.shape)


def resized_crop(images: Tensor, generator: torch.Generator, *, flip: bool, smallest: float) -> Tensor:
    """Return a random part of each image, resized to the full size (bilinear), with random horizontal flips.

    Args:
        images: (B, C, H, W), any dtype.
        generator: random numbers on the device of the images.
        flip: mirror each image with probability one half.
        smallest: smallest fraction of the area of a part; aspect ratios are 3:4 to 4:3 (Szegedy et al. 2015).

    Returns:
        (B, C, H, W) float32 in the units of the input.

    >>> images = torch.ones(2, 3, 8, 8, dtype=torch.uint8)
    >>> resized_crop(images, torch.Generator().manual_seed(0), flip=False, smallest=0.2).shape
    torch.Size([2, 3, 8, 8])
    """
    # One call for all decisions, also for an unused flip: the stream advances equally with and without flips.
    draw = torch.rand((5, len(images)), generator=generator, device=images.device)
    # The aspect ratio is log-uniform, so that a ratio and its inverse are equally likely.
    area, ratio = smallest + (1 - smallest) * draw[0], (4 / 3) ** (2 * draw[1] - 1)
    # Parts that exceed the image are clamped; redrawing them would need a loop that waits for the device.
    width, height = (area * ratio).sqrt().clamp_max(1), (area / ratio).sqrt().clamp_max(1)
    mirror = torch.where(draw[4] < 0.5, -1.0, 1.0) if flip else torch.ones_like(width)
    zero = torch.zeros_like(width)
    # `affine_grid` maps output to input coordinates in [-1, 1]: scale by the part's size, then move to its center.
    shift_x, shift_y = (1 - width) * (2 * draw[2] - 1), (1 - height) * (2 * draw[3] - 1)
    affine = torch.stack([width * mirror, zero, shift_x, zero, height, shift_y], 1).view(-1, 2, 3)
    grid = functional.affine_grid(affine, list(images.shape), align_corners=False)
    # `border` keeps the outermost pixels from being mixed with zeros.
    return functional.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)


LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the brightness of a pixel, of ITU-R BT.601."""

CROSS = ((0, -1, 1), (1, 0, -1), (-1, 1, 0))
"""Matrix of the cross product with (1, 1, 1)."""

BLUR = ((1 / 13, 1 / 13, 1 / 13), (1 / 13, 5 / 13, 1 / 13), (1 / 13, 1 / 13, 1 / 13))
"""Kernel of the blurred image from which RandAugment's sharpness departs."""


@functools.cache
def _constant(values: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return numbers as a tensor that is copied to a device once: the host waits for the device at every such copy."""
    return torch.tensor(values, dtype=dtype, device=device)


def color_jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images with jittered colors (with probability 0.8), converted to gray with probability 0.2.

    Brightness, contrast and saturation change by factors from 0.6 to 1.4 and hue by up to a tenth of a turn, in this
    fixed order: the strengths of Chen et al. 2020 for small images. Hue is rotated around the gray axis. Images with
    one channel change in brightness and contrast only.

    Args:
        images: (B, C, H, W) float in [0, 255].
        generator: random numbers on the device of the images.

    >>> color_jitter(torch.full((2, 1, 4, 4), 100.0), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 1, 4, 4])
    """
    # Drawn per image; the trailing dimensions broadcast over channels and pixels.
    draw = torch.rand((6, len(images), 1, 1, 1), generator=generator, device=images.device)
    factor = 0.6 + 0.8 * draw[:3]
    weights = _constant(LUMA, images.dtype, images.device)[:, None, None]
    has_color = images.shape[1] == 3

    def to_gray(pictures: Tensor) -> Tensor:
        return (pictures * weights).sum(1, keepdim=True) if has_color else pictures

    jittered = (images * factor[0]).clamp_(0, 255)
    # `lerp` extrapolates beyond its second argument if the factor is above one, which raises the contrast.
    mean = to_gray(jittered).mean((2, 3), keepdim=True)
    jittered = mean.lerp(jittered, factor[1]).clamp_(0, 255)
    if has_color:
        jittered = to_gray(jittered).lerp(jittered, factor[2]).clamp_(0, 255)
        rotation = _hue_rotation((0.2 * draw[3] - 0.1).flatten())
        jittered = torch.einsum("bij,bjhw->bihw", rotation, jittered).clamp_(0, 255)
    # Both variants are computed for all images: selecting rows by a mask would make the host wait for the device.
    jittered = torch.where(draw[4] < 0.8, jittered, images)
    return torch.where(draw[5] < 0.2, to_gray(jittered), jittered) if has_color else jittered


def _hue_rotation(turns: Tensor) -> Tensor:
    """Return (B, 3, 3) rotations of red, green and blue around the gray axis by (B,) fractions of a full turn."""
    angle = 2 * torch.pi * turns[:, None, None]
    third = torch.full((3, 3), 1 / 3, device=turns.device)
    eye = torch.eye(3, device=turns.device)
    # Rodrigues' formula for the axis (1, 1, 1) / sqrt(3).
    cross = _constant(CROSS, turns.dtype, turns.device) / 3**0.5
    # `third` projects onto the gray axis, so that gray stays fixed and only the orthogonal part turns.
    return third + (eye - third) * angle.cos() + cross * angle.sin()


def contrastive_view(images: Tensor, generator: torch.Generator, *, flip: bool, smallest: float = 0.08) -> Tensor:
    """Return the view of contrastive learning on small images: resized crop, flip, color jitter, gray; no blur.

    Args:
        images: (B, C, H, W) uint8.
        generator: random numbers on the device of the images.
        flip: mirror each image with probability one half.
        smallest: smallest fraction of the image area in a view (Chen et al. 2020).

    Returns:
        (B, C, H, W) float32 in [0, 255].

    >>> images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    >>> contrastive_view(images, torch.Generator().manual_seed(0), flip=True).dtype
    torch.float32
    """
    return color_jitter(resized_crop(images, generator, flip=flip, smallest=smallest), generator)


def strong_view(images: Tensor, generator: torch.Generator, rng: np.random.Generator, *, magnitude: int) -> Tensor:
    """Return a resized crop of each image with one random operation of RandAugment (Cubuk et al. 2020); no flip.

    Args:
        images: (B, C, H, W) uint8.
        generator: random numbers on the device of the images.
        rng: random numbers on the host, which choose operations and signs without a wait for the device.
        magnitude: magnitude of the operations, 0 to 30.

    Returns:
        (B, C, H, W) uint8.

    >>> images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    >>> strong_view(images, torch.Generator().manual_seed(0), np.random.default_rng(0), magnitude=4).dtype
    torch.uint8
    """
    # Rounded, because truncation would darken the images by half a level on average.
    cropped = resized_crop(images, generator, flip=False, smallest=0.08).round_().to(torch.uint8)
    count = len(GEOMETRIC_OPS) + len(COLOR_OPS)
    return rand_augment(cropped, rng.integers(count, size=len(images)), rng.integers(2, size=len(images)), magnitude)


GEOMETRIC_OPS = ("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
COLOR_OPS = ("Brightness", "Color", "Contrast", "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize")


def rand_augment(images: Tensor, ops: NDArray[np.int64], negative: NDArray[np.int64], magnitude: int) -> Tensor:
    """Return each of (B, C, H, W) uint8 images after one of RandAugment's 14 operations, as torchvision defines them.

    Geometric operations of all images are applied in one resampling; color operations one after the other, each to its
    images.

    Args:
        images: (B, C, H, W) uint8.
        ops: (B,) positions in `GEOMETRIC_OPS` followed by `COLOR_OPS`.
        negative: (B,) 1 for the opposite direction of an operation that has two.
        magnitude: magnitude of the operations, 0 to 30.

    >>> images = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)
    >>> identity = np.array([GEOMETRIC_OPS.index("Identity")])
    >>> torch.equal(rand_augment(images, identity, np.array([0]), magnitude=10), images)
    True
    """
    level = magnitude / 30
    chosen = {name: ops == position for position, name in enumerate((*GEOMETRIC_OPS, *COLOR_OPS))}
    sign = np.where(negative, -1.0, 1.0)
    operations = _color_operations(level)
    group = np.select(
        [chosen[name] & (sign == direction) if direction else chosen[name] for name, direction, _ in operations],
        range(1, len(operations) + 1),
    )
    # Sorted on the host, where the choices are, so that each operation has a range of rows: a mask on the device would
    # have to be waited for, and so might the copies of many lists of rows.
    order = np.argsort(group, kind="stable")
    places = torch.from_numpy(np.stack([order, np.argsort(order)])).to(images.device, non_blocking=True)
    bounds = np.searchsorted(group[order], np.arange(1, len(operations) + 2)).tolist()
    augmented = _apply_geometric_ops(images, chosen, sign, level)[places[0]]
    for (_, _, operation), first, last in zip(operations, bounds, bounds[1:], strict=False):
        if first < last:
            augmented[first:last] = operation(augmented[first:last])
    return augmented[places[1]]


def _apply_geometric_ops(
    images: Tensor, chosen: dict[str, NDArray[np.bool_]], sign: NDArray[np.float64], level: float
) -> Tensor:
    """Return the images after shears, translations and rotations, resampled once to the nearest pixel."""
    height, width = images.shape[-2:]
    # (B, 2, 3), built on the host: one small copy replaces kernel launches for every operation.
    affine = np.tile(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), (len(images), 1, 1))
    shear, angle = 0.3 * level * sign, np.deg2rad(30 * level) * sign
    # Translations by whole pixels; torchvision scales 150 pixels of a 331-pixel image.
    shift_x, shift_y = (np.trunc(150 / 331 * length * level) * sign for length in (width, height))
    # The matrix maps output to input coordinates, in units of half the image from its center.
    # Half the width and half the height are different units, hence the aspect ratio in the mixed terms.
    affine[:, 0, 1] = np.select([chosen["ShearX"], chosen["Rotate"]], [shear, -np.sin(angle)]) * height / width
    affine[:, 1, 0] = np.select([chosen["ShearY"], chosen["Rotate"]], [shear, np.sin(angle)]) * width / height
    affine[:, 0, 0] = affine[:, 1, 1] = np.where(chosen["Rotate"], np.cos(angle), 1.0)
    # Shears keep the upper left corner fixed, not the center.
    affine[:, 0, 2] = np.select(
        [chosen["ShearX"], chosen["TranslateX"]], [shear * height / width, -2 * shift_x / width]
    )
    affine[:, 1, 2] = np.select(
        [chosen["ShearY"], chosen["TranslateY"]], [shear * width / height, -2 * shift_y / height]
    )
    theta = torch.from_numpy(affine).float().to(images.device, non_blocking=True)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    # The nearest pixel leaves images without a geometric operation exactly as they are.
    return functional.grid_sample(images.float(), grid, mode="nearest", align_corners=False).to(torch.uint8)


def _color_operations(level: float) -> list[tuple[str, float, Callable[[Tensor], Tensor]]]:
    """Return name, direction (0 if there is one only) and function of the color operations on uint8 images."""
    from torchvision.transforms.v2 import functional as vision

    by_factor: tuple[Callable[[Tensor, float], Tensor], ...] = (
        vision.adjust_brightness, vision.adjust_saturation, vision.adjust_contrast, _adjust_sharpness,
    )  # fmt: skip
    others: tuple[Callable[[Tensor], Tensor], ...] = (
        functools.partial(vision.posterize, bits=8 - round(level * 4)),
        functools.partial(vision.solarize, threshold=255 * (1 - level)),
        _autocontrast,
        vision.equalize,
    )
    return [
        *(
            (name, direction, _with_factor(adjust, 1 + 0.9 * level * direction))
            for name, adjust in zip(COLOR_OPS, by_factor, strict=False)
            for direction in (1.0, -1.0)
        ),
        *((name, 0.0, operation) for name, operation in zip(COLOR_OPS[len(by_factor) :], others, strict=True)),
    ]


def _with_factor(adjust: Callable[[Tensor, float], Tensor], factor: float) -> Callable[[Tensor], Tensor]:
    return lambda images: adjust(images, factor)


def _adjust_sharpness(images: Tensor, factor: float) -> Tensor:
    """Return torchvision's bits, without its copy of a kernel in each call, for which the host waits."""
    if min(images.shape[2:]) <= 2:
        return images
    adjusted, channels = images.float(), images.shape[1]
    kernel = _constant(BLUR, adjusted.dtype, images.device).expand(channels, 1, 3, 3)
    blurred = functional.conv2d(adjusted, kernel, groups=channels).round_()
    inside = adjusted[..., 1:-1, 1:-1]
    inside.add_(blurred.sub_(inside), alpha=1 - factor)
    return adjusted.clamp_(0, 255).to(torch.uint8)


def _autocontrast(images: Tensor) -> Tensor:
    """Return torchvision's bits, without its two masks in each call, for which the host waits."""
    low, high = (limit(images, (2, 3), keepdim=True).float() for limit in (torch.amin, torch.amax))
    # Constant channels stay as they are.
    scale = torch.where(high > low, (high - low) * (1 / 255), 1.0)
    shifted = images.float() - torch.where(high > low, low, 0.0)
    return shifted.div_(scale).clamp_(0, 255).to(torch.uint8)


def augment(images: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """Return (B, C, H, W) images with the augmentation of a budget: ``none``, ``crop`` or ``crop_flip``.

    >>> images = torch.ones(2, 3, 8, 8, dtype=torch.uint8)
    >>> augment(images, "none", torch.Generator()) is images
    True
    """
    return images if kind == "none" else crop_and_flip(images, generator, flip=kind == "crop_flip")
