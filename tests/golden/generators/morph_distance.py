"""Dilation and erosion by a distance, of the authors of the spatial correction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.golden.generators.markov_boundary import COMMIT, REFERENCE, blob_masks, load_reference

__all__ = ["COMMIT", "COMPUTED", "REFERENCE", "generate"]

COMPUTED = "noise_generator._dilateORerode: 6 masks of 64x64 pixels, grown and shrunk by four distances"
DISTANCES = (1.5, 3.3, 4.2, 7.9)


def generate(folder: Path) -> dict[str, Any]:
    """Return masks, distances and the authors' (D, N, H, W) results for growing and shrinking."""
    reference, masks = load_reference(folder), blob_masks(6, 64)
    results = {
        name: [
            [np.uint8(reference._dilateORerode(mask.astype(float), kind, [distance, distance])) for mask in masks]
            for distance in DISTANCES
        ]
        for name, kind in (("grown", 1), ("shrunk", 0))
    }
    return {
        "masks": np.packbits(masks), "shape": np.array(masks.shape), "distances": np.array(DISTANCES),
        **{name: np.packbits(np.array(result)) for name, result in results.items()},
    }  # fmt: skip
