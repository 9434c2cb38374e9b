"""Drawn scenes with exact masks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.source import DatasetSource
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream

NAMES = ("background", "disc", "square", "ring", "ellipse")
COLOURS = np.array([[1, 0.3, -0.2], [-0.3, 1, 0.2], [0.2, -0.3, 1], [0.8, 0.8, -0.4]])
CONTRASTS = (2.0, 1.7, 1.6, 1.4)
TEXTURE, JITTER, PIXEL_NOISE = 0.2, 0.12, 0.15
SMALLEST, LARGEST = 0.11, 0.17
"""Nominal radius of an object, as a share of the side."""
TRIES = 60


class Scenes(DatasetSource):
    """Drawn scenes of discs, squares, rings and ellipses on a clouded ground, with exact masks: no download, seeded.

    Every scene has 2 to 4 objects of different classes that do not overlap, each with its class's colour and texture, in a
    random pose. Images are standardised one by one. `class_weights` makes classes rarer or more frequent.
    """

    tasks = ("segmentation",)

    size: int = parameter(32, ge=16, le=512, help="side of the images in pixels", always_in_label=True)
    train_images: int = parameter(100, ge=1, help="number of training images")
    validation_images: int = parameter(20, ge=0, help="number of further images for validation")
    test_images: int = parameter(100, ge=1, help="number of test images")
    scene_seed: int = parameter(0, ge=0, help="of the scenes; not changed by the run's seed")
    class_weights: list[float] | None = parameter(None, help="of disc, square, ring and ellipse; by default alike")

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Draw all scenes."""
        weights = self.class_weights or [1.0] * len(COLOURS)
        if len(weights) != len(COLOURS) or min(weights) < 0 or sum(each > 0 for each in weights) < 2:
            raise UserError(
                f"dataset.class_weights: needs {len(COLOURS)} numbers from 0 up, two above 0, but got {self.class_weights}"
            )
        count = self.train_images + self.validation_images
        train = [self._scene("train", number, weights) for number in range(count)]
        test = [self._scene("test", number, weights) for number in range(self.test_images)]
        held_out = np.arange(count) >= self.train_images
        names = tuple(f"scene_{number:05d}" for number in range(count))
        (images, masks), (test_images, test_masks) = (
            [np.stack(each) for each in zip(*scenes, strict=True)] for scenes in (train, test)
        )
        return RawSplit(images, masks, validation_mask=held_out, names=names), RawSplit(test_images, test_masks), NAMES

    def _scene(self, part: str, number: int, weights: list[float]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """(3, H, W) image and (H, W) mask."""
        stream, size = Stream("scene", part, self.scene_seed, number), self.size
        rows, columns = np.mgrid[0:size, 0:size].astype(np.float64)
        image = _ground(stream, size)
        mask = np.zeros((size, size), dtype=np.uint8)
        # The order of Efraimidis and Spirakis 2006: a weighted choice without repetition.
        keys = stream.uniform(len(weights)) ** (1 / np.maximum(weights, 1e-12))
        wanted = min(2 + int(3 * stream.uniform(1)[0]), sum(each > 0 for each in weights))
        for kind in np.argsort(-keys, kind="stable")[:wanted]:
            for _ in range(TRIES):
                draws = stream.uniform(4)
                radius = size * (SMALLEST + (LARGEST - SMALLEST) * draws[0])
                row, column = (1.2 * radius + (size - 1 - 2.4 * radius) * each for each in draws[1:3])
                turn = math.pi * draws[3]
                along = (rows - row) * math.sin(turn) + (columns - column) * math.cos(turn)
                across = (rows - row) * math.cos(turn) - (columns - column) * math.sin(turn)
                inside = _inside(int(kind), along, across, radius)
                if not mask[_inside(int(kind), along, across, radius + 1)].any():
                    break
            else:
                continue
            mask[inside] = kind + 1
            texture = TEXTURE * (np.sin(along * 2 * math.pi / 4) if kind in (1, 3) else stream.normal(size, size))
            colour = CONTRASTS[kind] * (COLOURS[kind] + JITTER * stream.normal(3))
            image[:, inside] = colour[:, None] + texture[inside]
        image += PIXEL_NOISE * stream.normal(3, size, size)
        image = (image - image.mean()) / image.std()
        return np.clip(np.rint(128 + 48 * image), 0, 255).astype(np.uint8), mask

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Nothing to write: scenes are drawn."""
        return {"train_images": 24, "validation_images": 6, "test_images": 8}


def _ground(stream: Stream, size: int) -> NDArray[np.float64]:
    """(3, H, W) clouds and a ramp."""
    from scipy.ndimage import gaussian_filter

    image = np.zeros((3, size, size))
    for deviation, strength in ((3.0, 0.25), (1.0, 0.15)):
        clouds = np.stack([gaussian_filter(each, deviation) for each in stream.normal(3, size, size)])
        image += strength * clouds / clouds.std()
    ramp = np.linspace(-0.5, 0.5, size)
    slopes = stream.normal(3, 2) * 0.3
    return image + slopes[:, :1, None] * ramp[None, :, None] + slopes[:, 1:, None] * ramp[None, None, :]


def _inside(kind: int, along: NDArray[Any], across: NDArray[Any], radius: float) -> NDArray[np.bool_]:
    """Which pixels an object covers."""
    distance = np.hypot(along, across)
    if kind == 0:
        return np.asarray(distance <= radius)
    if kind == 1:
        return np.asarray(np.maximum(np.abs(along), np.abs(across)) <= 0.9 * radius)
    if kind == 2:
        return np.asarray((distance <= 1.1 * radius) & (distance >= 0.4 * radius))
    longer = 1.45 * radius
    return np.asarray(np.hypot(along / longer, across / (longer / 2.3)) <= 1)
