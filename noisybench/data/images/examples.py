"""Images of the tiny datasets that sources write for the contract tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noisybench.utils.seeds import Stream

MAX_NOISE = 40
"""Largest random intensity that is added to pixels."""


def class_images(
    stream: Stream, labels: NDArray[np.int64], num_classes: int, shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Return images that are brighter, the higher their class: from 0 to 255, with steps above the noise for few classes.

    Args:
        stream: source of the noise.
        labels: (N,) classes.
        num_classes: number of classes.
        shape: shape of one image.

    Returns:
        (N, *shape) images.

    Example:
        >>> images = class_images(Stream("example"), np.array([0, 1, 2]), 3, (8, 8))
        >>> images.mean(axis=(1, 2)).round(-2).tolist()
        [0.0, 100.0, 200.0]
    """
    noise = stream.uniform(len(labels), *shape) * MAX_NOISE
    levels = np.asarray(labels) * ((255 - MAX_NOISE) / (num_classes - 1))
    images: NDArray[np.uint8] = (noise + levels.reshape(-1, *(1 for _ in shape))).astype(np.uint8)
    return images


def object_image(stream: Stream, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image in which the objects of a mask are bright on a dark background.

    Args:
        stream: source of the noise.
        mask: (H, W) classes; 0 is the background, 255 no label.

    Returns:
        (H, W, 3) image: below 40 in the background and where there is no label, above 200 in objects.

    Example:
        >>> object_image(Stream("example"), np.array([[0, 3]], dtype=np.uint8)).mean(axis=2).round(-2).tolist()
        [[0.0, 200.0]]
    """
    inside = (mask != 0) & (mask != 255)
    noise = stream.uniform(*mask.shape, 3) * MAX_NOISE
    image: NDArray[np.uint8] = (noise + 205 * inside[..., None]).astype(np.uint8)
    return image
