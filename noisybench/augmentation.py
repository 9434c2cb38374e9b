"""Batched augmentation: a whole batch of uint8 images at once, on the device that trains, each with its own draw."""

from __future__ import annotations

import torch
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


def augment(images: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """Apply a budget's augmentation to (B, C, H, W) images: ``none``, ``crop`` or ``crop_flip``."""
    return images if kind == "none" else crop_and_flip(images, generator, flip=kind == "crop_flip")
