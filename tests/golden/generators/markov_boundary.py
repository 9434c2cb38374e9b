"""Markov noise of the authors: masks from given random numbers, and Dice and area of an ellipse over draws."""

from __future__ import annotations

import importlib
import sys
import tempfile
import types
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray
from PIL import Image

REFERENCE = "https://github.com/michaelofsbu/SpatialCorrection"
COMMIT = "49aae60fc67ec1a9f42a99b46e8c887f1f70737b"
COMPUTED = (
    "noise_generator._MarkovNoise_random: 8 masks from the numbers of np.random.seed(position); Dice and relative area of "
    "12 draws for an ellipse of 100x80 in 256x256 pixels at four settings"
)

SETTINGS = ((180, 0.8, 0.05, 0.2), (180, 0.2, 0.05, 0.2), (100, 0.8, 0.02, 0.2), (100, 0.2, 0.02, 0.2))
DRAWS = 12


def load_reference(folder: Path) -> Any:
    """Import the authors' generator, which asks for a reader of volumes and for a former module of SciPy."""
    sys.path.insert(0, str(folder))
    morphology: Any = types.ModuleType("scipy.ndimage.morphology")
    morphology.distance_transform_edt = scipy.ndimage.distance_transform_edt
    sys.modules |= {"SimpleITK": mock.MagicMock(), "scipy.ndimage.morphology": morphology}
    return importlib.import_module("noise_generator")


def blob_masks(count: int, side: int) -> NDArray[np.uint8]:
    """Return smooth random masks; some of their objects lie at the edge of the image."""
    rng = np.random.default_rng(0)
    fields = np.stack([scipy.ndimage.gaussian_filter(rng.normal(size=(side, side)), side / 8) for _ in range(count)])
    return np.asarray(fields > np.quantile(fields, 0.65, axis=(1, 2), keepdims=True), dtype=np.uint8)


def generate(folder: Path) -> dict[str, Any]:
    """Return masks, settings, and results of the authors."""
    reference = load_reference(folder)

    def corrupt(mask: NDArray[np.uint8], seed: int, setting: tuple[float, ...]) -> NDArray[np.uint8]:
        with tempfile.TemporaryDirectory() as temporary:
            clean, noisy = Path(temporary, "clean.png"), Path(temporary, "noisy.png")
            Image.fromarray(mask * np.uint8(255)).save(clean)
            np.random.seed(seed)  # noqa: NPY002 (the reference draws from this generator)
            reference._MarkovNoise_random(str(clean), str(noisy), *setting)
            return np.asarray(np.array(Image.open(noisy)) > 0, dtype=np.uint8)

    masks = blob_masks(8, 48)
    small = [(12, 0.5, 0.25, 0.0), (30, 0.8, 0.25, 0.0), (30, 0.2, 0.1, 0.2), (20, 0.5, 0.5, 0.1)] * 2
    noisy = [corrupt(mask, seed, small[seed]) for seed, mask in enumerate(masks)]
    rows, columns = np.mgrid[:256, :256]
    ellipse = np.asarray(((rows - 127.5) / 50) ** 2 + ((columns - 127.5) / 40) ** 2 <= 1, dtype=np.uint8)
    dice, area = np.zeros((2, len(SETTINGS), DRAWS))
    for position, setting in enumerate(SETTINGS):
        for draw in range(DRAWS):
            result = corrupt(ellipse, draw, setting)
            dice[position, draw] = 2 * (result & ellipse).sum() / (result.sum() + ellipse.sum())
            area[position, draw] = result.sum() / ellipse.sum()
    return {
        "masks": np.packbits(masks), "noisy": np.packbits(noisy), "shape": np.array(masks.shape),
        "small_settings": np.array(small), "settings": np.array(SETTINGS), "dice": dice, "area": area,
    }  # fmt: skip
