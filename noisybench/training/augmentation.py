"""Batched augmentation: a batch of uint8 images at once on the training device, with independent draws per image."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from noisybench.training.operations import constant


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
    weights = constant(LUMA, images.dtype, images.device)[:, None, None]
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
    cross = constant(CROSS, turns.dtype, turns.device) / 3**0.5
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


def augment(images: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """Return (B, C, H, W) images with the augmentation of a budget: ``none``, ``crop`` or ``crop_flip``.

    >>> images = torch.ones(2, 3, 8, 8, dtype=torch.uint8)
    >>> augment(images, "none", torch.Generator()) is images
    True
    """
    return images if kind == "none" else crop_and_flip(images, generator, flip=kind == "crop_flip")
