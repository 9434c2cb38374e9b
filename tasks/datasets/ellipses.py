"""Synthetic images of one ellipse-like object, as in medical images, with exact masks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.masks.ellipses import EllipseModel
from noisybench.data.source import DatasetSource
from noisybench.utils.seeds import Stream

NAMES = ("background", "object")

OBJECTS = EllipseModel(min_axis=0.17, max_axis=0.30, min_ratio=0.6, wobble=0.12)
"""True distribution of the objects, whose outlines are no exact ellipses."""

BRIGHTNESS = (1.0, 1.8)
"""Range of the difference between the mean of an object and the background, in standard deviations of the background."""

SPECKLE, STRIPES, BLOBS = range(3)
"""Textures of objects."""

MAX_DISTRACTORS = 4


class Ellipses(DatasetSource):
    """Synthetic gray images of one ellipse-like object among distractors, with exact masks; no download.

    The images resemble medical ones, such as an optic disc or a fetal head: every image has one bright object of a random
    texture (speckle, stripes or blobs) whose outline deviates from an ellipse, and up to four distractors of the same
    brightness (bars and small discs), on a cloudy background. Images are standardized individually.
    """

    license = License("not applicable", access="generated")
    tasks = ("segmentation",)

    size: int = parameter(64, ge=16, le=512, help="Side of the images in pixels", always_in_label=True)
    train_images: int = parameter(200, ge=1, help="Number of training images")
    validation_images: int = parameter(40, ge=0, help="Number of additional images for validation")
    test_images: int = parameter(100, ge=1, help="Number of test images")
    image_seed: int = parameter(0, ge=0, help="Random seed of the images (independent of the run's seed)")

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Draw all images."""
        count = self.train_images + self.validation_images
        images, masks = self._draw_images("train", count)
        names = tuple(f"image_{number:05d}" for number in range(count))
        validation_mask = np.arange(count) >= self.train_images
        return (
            RawSplit(images, masks, validation_mask=validation_mask, names=names),
            RawSplit(*self._draw_images("test", self.test_images)),
            NAMES,
        )

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Return parameters of a small set; no files are needed."""
        return {"size": 32, "train_images": 24, "validation_images": 6, "test_images": 8}

    def _draw_images(self, part: str, count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return (N, 1, H, W) images and their (N, H, W) masks."""
        # A stream for each image, so that the first ones stay the same when their number changes.
        streams = [Stream("ellipses", part, self.image_seed, number) for number in range(count)]
        drawn = [_draw_image(stream, self.size) for stream in streams]
        return np.stack([image for image, _ in drawn])[:, None], np.stack([mask for _, mask in drawn])


def _draw_image(stream: Stream, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a (H, W) image and its (H, W) mask."""
    mask = OBJECTS.draw(stream, (size, size))
    image = _clouds(stream, size, size / 10) + 0.5 * _clouds(stream, size, size / 40)
    draws = stream.uniform(3)
    low, high = BRIGHTNESS
    for distractor in range(int(draws[0] * (MAX_DISTRACTORS + 1))):
        image[_draw_distractor(stream, size, is_bar=distractor % 2 == 0)] += (low + high) / 2
    # The object lies over the distractors, so that its mask is exact.
    brightness = low + (high - low) * draws[1]
    image[mask] = (brightness + 0.5 * _texture(stream, size, int(3 * draws[2])))[mask]
    image += 0.25 * stream.normal(size, size)
    image = (image - image.mean()) / image.std()
    # 48 levels per standard deviation: values more than about 2.7 deviations from the mean are clipped.
    return np.clip(np.rint(128 + 48 * image), 0, 255).astype(np.uint8), mask.astype(np.uint8)


def _draw_distractor(stream: Stream, size: int, is_bar: bool) -> NDArray[np.bool_]:
    """Return the (H, W) pixels of a bar through the whole image, or of a disc smaller than any object."""
    row, column, turn, width = stream.uniform(4)
    rows, columns = np.mgrid[0:size, 0:size] / size
    rows, columns = rows - row, columns - column
    if not is_bar:
        return np.asarray(np.hypot(rows, columns) <= 0.04 + 0.05 * width)
    angle = math.pi * turn
    return np.asarray(np.abs(rows * math.cos(angle) - columns * math.sin(angle)) <= 0.015 + 0.02 * width)


def _texture(stream: Stream, size: int, kind: int) -> NDArray[np.float64]:
    """Return a (H, W) texture with a standard deviation of about one."""
    if kind == SPECKLE:
        return stream.normal(size, size)
    if kind == BLOBS:
        return _clouds(stream, size, size / 25)
    angle, phase = math.pi * stream.uniform(2)
    rows, columns = np.mgrid[0:size, 0:size] / size
    waves = np.sin(20 * math.pi * (rows * math.cos(angle) + columns * math.sin(angle)) + 2 * phase)
    return np.asarray(math.sqrt(2) * waves)


def _clouds(stream: Stream, size: int, deviation: float) -> NDArray[np.float64]:
    """Return (H, W) smoothed noise with a standard deviation of one."""
    from scipy.ndimage import gaussian_filter

    clouds = gaussian_filter(stream.normal(size, size), deviation)
    # Smoothing reduces the variance by an amount that depends on its width.
    return np.asarray(clouds / clouds.std())
