"""Pictures of a check: examples of each class, and outlines of masks over their images."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.data.dataset import Dataset, Split
from noisybench.data.targets import IGNORED

MAX_CLASSES = 20
"""Largest number of classes of which examples are shown."""

PER_CLASS = 4
"""Number of examples of a class."""

MAX_MASKS = 12
"""Number of images that are shown with their masks."""

MIN_SIDE = 160
"""Smaller images are enlarged by a whole factor before outlines are drawn, so that the lines stay thin."""

COLORS = ((230, 25, 75), (60, 180, 75), (255, 225, 25), (0, 130, 200), (245, 130, 48), (145, 30, 180), (70, 240, 240))
"""Colors of outlines, in turn for the classes from 1; class 0 and pixels without a label have none."""


@dataclass(frozen=True)
class Picture:
    """A picture with its caption.

    Attributes:
        caption: name of the class, or of the image.
        png: the picture as PNG in base64.
    """

    caption: str
    png: str


def example_pictures(dataset: Dataset) -> tuple[Picture, ...]:
    """Return examples of each class, or training images with the outlines of their masks; none for features and traces."""
    inputs = dataset.train.inputs
    if (
        dataset.target_kind.name == "tokens"
        or np.asarray(inputs[:1]).dtype != np.uint8
        or inputs.shape[1] not in (1, 3)
    ):
        return ()
    if dataset.target_kind.name == "masks":
        # Evenly over the split, because neighbors, such as slices of a volume, look alike.
        rows = np.unique(np.linspace(0, len(dataset.train) - 1, MAX_MASKS).astype(np.int64))
        return tuple(
            Picture(
                _name(dataset, dataset.train, row),
                _png(outlined(_image(dataset.train, row), dataset.train.targets[row])),
            )
            for row in rows.tolist()
        )
    labels = dataset.train.targets if dataset.train.noisy_targets is None else dataset.train.noisy_targets
    return tuple(
        Picture(f"{dataset.class_names[index]}: {_name(dataset, dataset.train, row)}", _png(_image(dataset.train, row)))
        for index in range(min(dataset.num_classes, MAX_CLASSES))
        for row in np.flatnonzero(labels == index)[:PER_CLASS].tolist()
    )


def outlined(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Draw the outlines of a mask over its image.

    Args:
        image: (H, W, 3) pixels.
        mask: (H, W) classes.

    Returns:
        (k * H, k * W, 3) pixels, with a whole factor k that makes small images larger.

    Example:
        >>> mask = np.zeros((200, 200), dtype=np.uint8)
        >>> mask[50:100, 50:100] = 1
        >>> picture = outlined(np.zeros((200, 200, 3), dtype=np.uint8), mask)
        >>> picture[50, 70].tolist(), picture[70, 70].tolist()
        ([230, 25, 75], [0, 0, 0])
    """
    factor = max(1, -(-MIN_SIDE // max(1, min(mask.shape))))
    picture = image.repeat(factor, axis=0).repeat(factor, axis=1)
    classes = mask.repeat(factor, axis=0).repeat(factor, axis=1)
    inside = np.pad(classes, 1, mode="edge")
    neighbors = (inside[:-2, 1:-1], inside[2:, 1:-1], inside[1:-1, :-2], inside[1:-1, 2:])
    # The outline lies inside of its object, so that touching objects have one line each.
    edge = np.any([classes != neighbor for neighbor in neighbors], axis=0) & (classes != 0) & (classes != IGNORED)
    colors = np.array(COLORS, dtype=np.uint8)[(classes.astype(np.int64) - 1) % len(COLORS)]
    picture[edge] = colors[edge]
    return picture


def _image(split: Split, row: int) -> NDArray[np.uint8]:
    """Return the (H, W, 3) pixels of an image."""
    # Images on disk are indexed by arrays or slices only.
    pixels: NDArray[np.uint8] = np.asarray(split.inputs[np.array([row])])[0].transpose(1, 2, 0)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _name(dataset: Dataset, split: Split, row: int) -> str:
    index = int(split.index[row])
    return dataset.source_names[index] if dataset.source_names else f"row {index}"


def _png(pixels: NDArray[Any]) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()
