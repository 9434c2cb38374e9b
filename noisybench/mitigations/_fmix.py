"""Masks of FMix: random regions of low frequency, by which two images are mixed (Harris et al. 2020)."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

DECAY_POWER = 3
"""Power of the frequency by which amplitudes decay."""


def num_frequencies(width: int) -> int:
    """Return the number of horizontal frequencies of images of a width.

    >>> num_frequencies(32)
    17
    """
    return width // 2 + 1 + width % 2


def draw_mask(images: Tensor, rng: np.random.Generator, generator: torch.Generator | None) -> tuple[float, Tensor]:
    """Return a uniform weight, and a random (H, W) mask of zeros and ones whose mean is the weight up to one pixel.

    Args:
        images: (B, C, H, W) images on the device of the mask.
        rng: random numbers on the host, for the weight.
        generator: random numbers on the device, for the region; None uses those of torch.

    >>> images = torch.zeros(2, 3, 8, 8)
    >>> weight, mask = draw_mask(images, np.random.default_rng(0), torch.Generator().manual_seed(0))
    >>> abs(float(mask.mean()) - weight) <= 1 / 64
    True
    """
    height, width = images.shape[-2:]
    weight = float(rng.beta(1.0, 1.0))
    noise = torch.randn((2, num_frequencies(width), 2), generator=generator, device=images.device)
    rounding = math.ceil if rng.random() > 0.5 else math.floor
    mask = region(noise, height, width, rounding(weight * height * width))
    return weight, mask.to(images.dtype)


def region(noise: Tensor, height: int, width: int, count: int) -> Tensor:
    """Return the (H, W) mask of the `count` largest values of an image of low frequency.

    Args:
        noise: (2, F, 2) normal numbers, the real and the imaginary part of the image's spectrum; see `num_frequencies`.
        height: height of the mask.
        width: width of the mask.
        count: number of ones.
    """
    real, imaginary = noise * _amplitudes(height, width, noise.dtype, noise.device)
    image = torch.fft.irfft2(torch.complex(real, imaginary), s=(height, width)).flatten()
    largest = image.argsort(descending=True)[:count]
    # Indices instead of a comparison with a value, so that the host does not wait for it.
    return torch.zeros_like(image).scatter_(0, largest, 1.0).view(height, width)


@functools.lru_cache(maxsize=8)
def _amplitudes(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the (2, F, 1) mean amplitudes of the spectrum; kept, because a copy to the device in each step would wait."""
    # The authors' code takes two rows of a spectrum for the real and the imaginary part of a narrow one.
    vertical = np.fft.fftfreq(height)[:2, None]
    horizontal = np.fft.fftfreq(width)[: num_frequencies(width)]
    frequencies = np.maximum(np.hypot(vertical, horizontal), 1 / max(height, width))
    return torch.from_numpy(frequencies**-DECAY_POWER)[:, :, None].to(device, dtype)
