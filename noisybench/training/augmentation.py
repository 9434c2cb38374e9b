"""Batched augmentation: a whole batch of uint8 images at once, on the device that trains, each with its own draw."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


def crop_and_flip(images: Tensor, generator: torch.Generator, *, flip: bool) -> Tensor:
    """Random crop after zero padding by an eighth of the size, and a random horizontal flip.

    Args:
        images: (B, C, H, W), any dtype.
        generator: on the images' device.
        flip: mirror half of the images.

    Returns:
        (B, C, H, W) of the same dtype.
    """
    count, channels, height, width = images.shape
    padding = max(1, height // 8)
    padded = functional.pad(images, (padding,) * 4)
    # One draw for all three decisions: fewer kernels than three.
    draw = torch.rand((3, count, 1), generator=generator, device=images.device)
    offset = (draw[:2] * (2 * padding + 1)).long()
    rows = offset[0] + torch.arange(height, device=images.device)
    columns = offset[1] + torch.arange(width, device=images.device)
    if flip:
        columns = torch.where(draw[2] < 0.5, columns.flip(1), columns)
    place = rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]
    source = padded.reshape(count, channels, -1)
    return source.gather(2, place.reshape(count, 1, -1).expand(-1, channels, -1)).reshape(images.shape)


def resized_crop(images: Tensor, generator: torch.Generator, *, flip: bool, smallest: float) -> Tensor:
    """A random part of each image, blown up to the whole size (bilinear), and a random horizontal flip.

    Args:
        images: (B, C, H, W), any dtype.
        generator: on the images' device.
        flip: mirror half of the images.
        smallest: share of the area that a part has at least; sides are in a ratio of 3:4 to 4:3 (Szegedy et al. 2015).

    Returns:
        (B, C, H, W) float32 in the units of the input.
    """
    draw = torch.rand((5, len(images)), generator=generator, device=images.device)
    area, ratio = smallest + (1 - smallest) * draw[0], (4 / 3) ** (2 * draw[1] - 1)
    width, height = (area * ratio).sqrt().clamp_max(1), (area / ratio).sqrt().clamp_max(1)
    mirror = torch.where(draw[4] < 0.5, -1.0, 1.0) if flip else torch.ones_like(width)
    zero = torch.zeros_like(width)
    across, down = (1 - width) * (2 * draw[2] - 1), (1 - height) * (2 * draw[3] - 1)
    affine = torch.stack([width * mirror, zero, across, zero, height, down], 1).view(-1, 2, 3)
    grid = functional.affine_grid(affine, list(images.shape), align_corners=False)
    return functional.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)


def colour_jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness, contrast, saturation (each 0.6 to 1.4) and hue (a tenth of the circle) of 80 %; 20 % become grey.

    The strengths of Chen et al. 2020 for small images, in this fixed order. The hue turns around the axis of greys.
    Images of one channel change in brightness and contrast alone.

    Args:
        images: (B, C, H, W) float in [0, 255].
        generator: on the images' device.
    """
    draw = torch.rand((6, len(images), 1, 1, 1), generator=generator, device=images.device)
    factor = 0.6 + 0.8 * draw[:3]
    weights = images.new_tensor([0.299, 0.587, 0.114])[:, None, None]
    coloured = images.shape[1] == 3

    def grey(pictures: Tensor) -> Tensor:
        return (pictures * weights).sum(1, keepdim=True) if coloured else pictures

    changed = (images * factor[0]).clamp_(0, 255)
    middle = grey(changed).mean((2, 3), keepdim=True)
    changed = middle.lerp(changed, factor[1]).clamp_(0, 255)
    if coloured:
        changed = grey(changed).lerp(changed, factor[2]).clamp_(0, 255)
        turn = _hue_rotation((0.2 * draw[3] - 0.1).flatten())
        changed = torch.einsum("bij,bjhw->bihw", turn, changed).clamp_(0, 255)
    changed = torch.where(draw[4] < 0.8, changed, images)
    return torch.where(draw[5] < 0.2, grey(changed), changed) if coloured else changed


def _hue_rotation(turns: Tensor) -> Tensor:
    """(B, 3, 3) rotations of red, green and blue around the axis of greys, by (B,) parts of a full turn."""
    angle = 2 * torch.pi * turns[:, None, None]
    third = torch.full((3, 3), 1 / 3, device=turns.device)
    eye = torch.eye(3, device=turns.device)
    # Rodrigues' formula for the axis (1, 1, 1) / sqrt(3).
    cross = turns.new_tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / 3**0.5
    return third + (eye - third) * angle.cos() + cross * angle.sin()


def contrastive_view(images: Tensor, generator: torch.Generator, *, flip: bool, smallest: float = 0.08) -> Tensor:
    """The view of contrastive learning on small images: resized crop, flip, colour jitter, grey; no blur.

    Chen et al. 2020. Takes (B, C, H, W) uint8 images, gives float32 in [0, 255].
    """
    return colour_jitter(resized_crop(images, generator, flip=flip, smallest=smallest), generator)


def strong_view(images: Tensor, generator: torch.Generator, rng: np.random.Generator, *, magnitude: int) -> Tensor:
    """A resized crop and one operation of RandAugment (Cubuk et al. 2020), another one for each image; no flip.

    Args:
        images: (B, C, H, W) uint8.
        generator: on the images' device.
        rng: chooses operations and signs on the host, so that no device is waited for.
        magnitude: of the operations, 0 to 30.

    Returns:
        (B, C, H, W) uint8.
    """
    cropped = resized_crop(images, generator, flip=False, smallest=0.08).round_().to(torch.uint8)
    names = (*MOVES, *COLOURS)
    return rand_augment(
        cropped, rng.integers(len(names), size=len(images)), rng.integers(2, size=len(images)), magnitude
    )


MOVES = ("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
COLOURS = ("Brightness", "Color", "Contrast", "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize")
SIGNED = 4
"""The first colour operations go in two directions."""


def rand_augment(images: Tensor, chosen: NDArray[np.int64], negative: NDArray[np.int64], magnitude: int) -> Tensor:
    """One of RandAugment's 14 operations on each of (B, C, H, W) uint8 images, as torchvision defines them.

    Moves are done together in one reading of all images; colour operations one after the other, each on its images.

    Args:
        images: (B, C, H, W) uint8.
        chosen: (B,) positions in `MOVES` followed by `COLOURS`.
        negative: (B,) whether the operation, if it has a direction, goes in the opposite one.
        magnitude: 0 to 30.
    """
    from torchvision.transforms.v2 import functional as vision

    part, (height, width) = magnitude / 30, images.shape[-2:]
    sign = np.where(negative, -1.0, 1.0)
    affine = np.tile(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), (len(images), 1, 1))
    shear, turn = 0.3 * part * sign, np.deg2rad(30 * part) * sign
    across, down = (np.trunc(150 / 331 * length * part) * sign for length in (width, height))
    kind = {name: chosen == place for place, name in enumerate((*MOVES, *COLOURS))}
    # Where each place of the result is read: in units of half the image, from its centre.
    affine[:, 0, 1] = np.select([kind["ShearX"], kind["Rotate"]], [shear, -np.sin(turn)]) * height / width
    affine[:, 1, 0] = np.select([kind["ShearY"], kind["Rotate"]], [shear, np.sin(turn)]) * width / height
    affine[:, 0, 0] = affine[:, 1, 1] = np.where(kind["Rotate"], np.cos(turn), 1.0)
    # Shears keep the upper left corner, not the centre.
    affine[:, 0, 2] = np.select([kind["ShearX"], kind["TranslateX"]], [shear * height / width, -2 * across / width])
    affine[:, 1, 2] = np.select([kind["ShearY"], kind["TranslateY"]], [shear * width / height, -2 * down / height])
    theta = torch.from_numpy(affine).float().to(images.device, non_blocking=True)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images.float(), grid, mode="nearest", align_corners=False).to(torch.uint8)

    changes: list[Callable[[Tensor, float], Tensor]] = [
        vision.adjust_brightness,
        vision.adjust_saturation,
        vision.adjust_contrast,
        vision.adjust_sharpness,
        lambda each, _: vision.posterize(each, 8 - round(part * 4)),
        lambda each, _: vision.solarize(each, 255 * (1 - part)),
        lambda each, _: vision.autocontrast(each),
        lambda each, _: vision.equalize(each),
    ]
    for place, (name, change) in enumerate(zip(COLOURS, changes, strict=True)):
        for direction in (1.0, -1.0) if place < SIGNED else (0.0,):
            rows = np.flatnonzero(kind[name] & (sign == direction) if direction else kind[name])
            if len(rows):
                index = torch.from_numpy(rows).to(images.device, non_blocking=True)
                moved[index] = change(moved[index], 1 + 0.9 * part * direction)
    return moved


def augment(images: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """Apply a budget's augmentation to (B, C, H, W) images: ``none``, ``crop`` or ``crop_flip``."""
    return images if kind == "none" else crop_and_flip(images, generator, flip=kind == "crop_flip")
