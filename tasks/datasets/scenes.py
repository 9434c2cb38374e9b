"""Synthetic scenes with exact masks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.source import DatasetSource
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream

NAMES = ("background", "disc", "square", "ring", "ellipse")
DISC, SQUARE, RING, ELLIPSE = range(4)

COLORS = np.array([[1, 0.3, -0.2], [-0.3, 1, 0.2], [0.2, -0.3, 1], [0.8, 0.8, -0.4]])
CONTRASTS = (2.0, 1.7, 1.6, 1.4)
TEXTURE, COLOR_JITTER, PIXEL_NOISE = 0.2, 0.12, 0.15
STRIPE_WIDTH = 4
"""Period of striped textures, in pixels."""

MIN_RADIUS, MAX_RADIUS = 0.11, 0.17
"""Nominal radius of an object, relative to the side of the image."""

MAX_ATTEMPTS = 60
"""Number of random poses after which an object is omitted."""


INSTANCE_SCALE = 0.75
"""Factor of the radius in scenes with instances, which have more objects."""

_Scene = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint16]]
"""Image, mask and instances."""


class Scenes(DatasetSource):
    """Synthetic scenes of discs, squares, rings and ellipses on a cloudy background, with exact masks; no download.

    Every scene has 2 to 4 objects of different classes that do not overlap, each with the color and texture of its class,
    in a random pose. Images are standardized individually. `class_weights` makes classes rarer or more frequent.
    `instances` draws 3 to 6 smaller objects of any classes, which may touch, with the number of the object of each pixel.
    """

    license = License("not applicable", access="generated")
    tasks = ("segmentation",)

    size: int = parameter(32, ge=16, le=512, help="Side of the images in pixels", always_in_label=True)
    train_images: int = parameter(100, ge=1, help="Number of training images")
    validation_images: int = parameter(20, ge=0, help="Number of additional images for validation")
    test_images: int = parameter(100, ge=1, help="Number of test images")
    scene_seed: int = parameter(0, ge=0, help="Random seed of the scenes (independent of the run's seed)")
    class_weights: list[float] | None = parameter(
        None, help="Relative frequency of disc, square, ring and ellipse (default: equal)"
    )
    instances: bool = parameter(False, help="Draw several objects of a class, which may touch, with instance masks")

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Draw all scenes."""
        weights = self.class_weights or [1.0] * len(COLORS)
        if len(weights) != len(COLORS) or min(weights) < 0 or sum(weight > 0 for weight in weights) < 2:
            raise UserError(
                f"dataset.class_weights: needs {len(COLORS)} numbers from 0, at least two above 0, but got "
                f"{self.class_weights}"
            )
        count = self.train_images + self.validation_images
        train = [self._draw_scene("train", number, weights) for number in range(count)]
        test = [self._draw_scene("test", number, weights) for number in range(self.test_images)]
        validation_mask = np.arange(count) >= self.train_images
        names = tuple(f"scene_{number:05d}" for number in range(count))
        (images, masks, numbers), (test_images, test_masks, test_numbers) = (
            [np.stack(arrays) for arrays in zip(*scenes, strict=True)] for scenes in (train, test)
        )
        return (
            RawSplit(
                images,
                masks,
                validation_mask=validation_mask,
                names=names,
                instances=numbers if self.instances else None,
            ),
            RawSplit(test_images, test_masks, instances=test_numbers if self.instances else None),
            NAMES,
        )

    def _draw_scene(self, part: str, number: int, weights: list[float]) -> _Scene:
        """Return a (3, H, W) image, its (H, W) mask and the (H, W) numbers of its objects."""
        # A stream for each scene, so that the first ones stay the same when their number changes.
        stream, size = Stream("scene", part, self.scene_seed, number), self.size
        image, mask = _draw_background(stream, size), np.zeros((size, size), dtype=np.uint8)
        # The order of Efraimidis and Spirakis 2006: a weighted choice without replacement.
        # The bound avoids a division by zero; the key of a class of weight 0 is then so small that it comes last.
        keys = stream.uniform(len(weights)) ** (1 / np.maximum(weights, 1e-12))
        count = stream.uniform(1)[0]
        if self.instances:
            bounds = np.cumsum(weights) / sum(weights)
            kinds = np.searchsorted(bounds, stream.uniform(3 + int(4 * count)), side="right").tolist()
        else:
            num_objects = min(2 + int(3 * count), sum(weight > 0 for weight in weights))
            kinds = np.argsort(-keys, kind="stable")[:num_objects].tolist()
        instances = np.zeros((size, size), dtype=np.uint16)
        factor, distance = (INSTANCE_SCALE, 0.0) if self.instances else (1.0, 1.0)
        for position, kind in enumerate(kinds):
            inside = _draw_object(stream, kind, image, mask, factor, distance)
            instances[inside] = position + 1
        image += PIXEL_NOISE * stream.normal(3, size, size)
        image = (image - image.mean()) / image.std()
        # 48 levels per standard deviation: values more than about 2.7 deviations from the mean are clipped.
        return np.clip(np.rint(128 + 48 * image), 0, 255).astype(np.uint8), mask, instances

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Return parameters of a small set; no files are needed."""
        return {"train_images": 24, "validation_images": 6, "test_images": 8}


def _draw_object(
    stream: Stream,
    kind: int,
    image: NDArray[np.float64],
    mask: NDArray[np.uint8],
    factor: float,
    distance: float,
) -> NDArray[np.bool_]:
    """Draw one object in a free random pose, in place; omit it if no pose is free.

    Args:
        stream: random stream of the scene.
        kind: class without the background.
        image: (3, H, W) image.
        mask: (H, W) mask.
        factor: factor of the nominal radius.
        distance: smallest distance from other objects in pixels, so that those of one class never touch, or may.

    Returns:
        (H, W) pixels of the object.
    """
    size = len(mask)
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float64)
    for _ in range(MAX_ATTEMPTS):
        draws = stream.uniform(4)
        radius = factor * size * (MIN_RADIUS + (MAX_RADIUS - MIN_RADIUS) * draws[0])
        row, column = (1.2 * radius + (size - 1 - 2.4 * radius) * draw for draw in draws[1:3])
        angle = math.pi * draws[3]
        along = (rows - row) * math.sin(angle) + (columns - column) * math.cos(angle)
        across = (rows - row) * math.cos(angle) - (columns - column) * math.sin(angle)
        if not mask[_is_inside(kind, along, across, radius + distance)].any():
            break
    else:
        return np.zeros(mask.shape, dtype=bool)
    inside = _is_inside(kind, along, across, radius)
    mask[inside] = kind + 1
    striped = kind in (SQUARE, ELLIPSE)
    pattern = np.sin(along * 2 * math.pi / STRIPE_WIDTH) if striped else stream.normal(size, size)
    color = CONTRASTS[kind] * (COLORS[kind] + COLOR_JITTER * stream.normal(3))
    image[:, inside] = color[:, None] + (TEXTURE * pattern)[inside]
    return inside


def _draw_background(stream: Stream, size: int) -> NDArray[np.float64]:
    """Return a (3, H, W) image of clouds and a color gradient."""
    from scipy.ndimage import gaussian_filter

    image = np.zeros((3, size, size))
    for deviation, strength in ((3.0, 0.25), (1.0, 0.15)):
        clouds = np.stack([gaussian_filter(channel, deviation) for channel in stream.normal(3, size, size)])
        # Smoothing reduces the variance by an amount that depends on its width, so that it is normalized first.
        image += strength * clouds / clouds.std()
    ramp = np.linspace(-0.5, 0.5, size)
    slopes = stream.normal(3, 2) * 0.3
    return image + slopes[:, :1, None] * ramp[None, :, None] + slopes[:, 1:, None] * ramp[None, None, :]


def _is_inside(kind: int, along: NDArray[Any], across: NDArray[Any], radius: float) -> NDArray[np.bool_]:
    """Return the (H, W) pixels that an object covers; ``along`` and ``across`` are coordinates on its axes."""
    distance = np.hypot(along, across)
    if kind == DISC:
        return np.asarray(distance <= radius)
    if kind == SQUARE:
        return np.asarray(np.maximum(np.abs(along), np.abs(across)) <= 0.9 * radius)
    if kind == RING:
        return np.asarray((distance <= 1.1 * radius) & (distance >= 0.4 * radius))
    semi_axis = 1.45 * radius
    return np.asarray(np.hypot(along / semi_axis, across / (semi_axis / 2.3)) <= 1)
