"""Erosion and dilation in proportion to the size of organs, of the authors of ADELE."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import scipy
import scipy.ndimage

REFERENCE = "https://github.com/Kangningthu/ADELE"
COMMIT = "7195bd0af39be79c533d67dd7eab7f9bfd6a4285"
COMPUTED = (
    "loading.under_over_seg: 12 masks of 64x64 pixels and 4 organs, some of them at the edge of the image, in both modes "
    "with 2, 3 and 4 iterations"
)


def load_reference(folder: Path) -> Any:
    """Import the authors' data loader, which asks for a former module of SciPy that it does not use."""
    sys.path.insert(0, str(folder / "SegThor" / "brat"))
    scipy.misc = sys.modules["scipy.misc"] = mock.MagicMock()
    return importlib.import_module("loading")


def generate(folder: Path) -> dict[str, Any]:
    """Return masks and the authors' (mode, iterations, N, H, W) results."""
    reference, rng = load_reference(folder), np.random.default_rng(0)
    fields = np.stack(
        [[scipy.ndimage.gaussian_filter(rng.normal(size=(64, 64)), 7) for _ in range(4)] for _ in range(12)]
    )
    fields /= fields.std(axis=(2, 3), keepdims=True)
    masks = np.where(fields.max(axis=1) > 0.9, 1 + fields.argmax(axis=1), 0).astype(np.uint8)
    results = [
        [[reference.under_over_seg(mask, number, mode) for mask in masks] for number in (2, 3, 4)]
        for mode in ("under", "over")
    ]
    return {"masks": masks, "results": np.array(results, dtype=np.uint8)}
