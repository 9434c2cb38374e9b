"""Dilation, erosion and edge noise of the authors of confident learning for segmentation."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from tests.golden.generators.markov_boundary import blob_masks

REFERENCE = "https://github.com/502463708/Confident_Learning_for_Noisy-labeled_Medical_Image_Segmentation"
COMMIT = "8445951b3ab1051913c28783e69523ef8a6450e9"
COMPUTED = (
    "utils.noisy_dataset_generation: 6 masks of 64x64 pixels, some of their objects at the edge of the image, dilated and "
    "eroded by radii of 1 to 6; with a noisy edge from given numbers; kinds of 3000 draws of add_noise"
)
RADII = (1, 2, 3, 4, 5, 6)


def generate(folder: Path) -> dict[str, Any]:
    """Return masks, the numbers that decide an edge, and results of the authors."""
    sys.path.insert(0, str(folder))
    reference = importlib.import_module("utils.noisy_dataset_generation")
    masks, rng = blob_masks(6, 64), np.random.default_rng(0)
    change = {
        name: np.packbits([[function(mask, radius) for mask in masks] for radius in RADII])
        for name, function in (("dilated", reference.dilate_mask), ("eroded", reference.erode_mask))
    }
    chosen = rng.random((len(masks), 64, 64))
    # One radius and one coin for each chosen pixel of an edge, row by row.
    radii, coins = rng.integers(0, 4, (len(masks), 400)), rng.integers(0, 2, (len(masks), 400))
    ragged = []
    for position, mask in enumerate(masks):
        numbers = iter(np.stack([radii[position], coins[position]], axis=1).reshape(-1).tolist())
        with (
            mock.patch.object(np.random, "rand", lambda *shape, at=position: chosen[at].copy()),
            mock.patch.object(np.random, "randint", lambda *limits, left=numbers, **options: next(left)),
        ):
            ragged.append(reference.gaussian_noise(mask * np.uint8(255), 4) > 0)
    reference.random.seed(0)
    # The radius of a disc is an array of one number there, which OpenCV takes no longer.
    with mock.patch.object(np.random, "randint", return_value=0):
        kinds = [reference.add_noise(masks[0] * np.uint8(255), 1, 2)[1] for _ in range(3000)]
    return {
        "masks": np.packbits(masks), "shape": np.array(masks.shape), "radii": np.array(RADII), **change,
        "chosen": np.packbits(chosen > 0.5), "ragged_radii": radii.astype(np.uint8), "coins": coins.astype(np.uint8),
        "ragged": np.packbits(ragged),
        "kinds": np.array([kinds.count(name) for name in ("dilate", "erode", "gaussian noise")]),
    }  # fmt: skip
