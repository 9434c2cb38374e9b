"""Boundaries of binary masks, and their counts by class, from the authors' `mask_to_boundary`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

REFERENCE = "https://github.com/bowenc0221/boundary-iou-api"
COMMIT = "37d25586a677b043ed585f10e5c42d4e80176ea9"
COMPUTED = "mask_to_boundary: boundary pixels of 3 classes in both masks, the first and the second, at 6 image sizes"

SIZES = ((24, 20), (8, 8), (30, 130), (130, 30), (75, 100), (90, 90))
"""Heights and widths; with the diagonal, the boundaries are 1, 1, 3, 3, 2 and 3 pixels wide."""
CLASSES = 3


def generate(folder: Path) -> dict[str, Any]:
    """Return two masks of every size, and the counts of their boundary pixels."""
    # Encodes boundaries for COCO's files, which is not needed here.
    sys.modules["pycocotools"] = sys.modules["pycocotools.mask"] = mock.MagicMock()
    spec = importlib.util.spec_from_file_location("boundary_utils", folder / "boundary_iou/utils/boundary_utils.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {"sizes": np.array(SIZES)}
    for position, (height, width) in enumerate(SIZES):
        first, second = (
            np.kron(rng.integers(0, CLASSES, (height // 5 + 1, width // 5 + 1)), np.ones((5, 5)))[:height, :width]
            for _ in range(2)
        )
        # Patches in which both agree, so that some boundaries coincide.
        agree = np.kron(rng.random((height // 10 + 1, width // 10 + 1)) < 0.5, np.ones((10, 10)))[:height, :width] > 0
        second = np.where(agree, first, second)
        counts = []
        for label in range(CLASSES):
            one, other = (module.mask_to_boundary((mask == label).astype(np.uint8)) for mask in (first, second))
            counts.append([(one & other).sum(), one.sum(), other.sum()])
        arrays[f"masks_{position}"] = np.stack([first, second]).astype(np.uint8)
        arrays[f"counts_{position}"] = np.array(counts, dtype=np.int64).T
    return arrays
