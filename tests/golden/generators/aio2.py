"""Shifted, rotated and removed buildings of the authors of AIO2."""

from __future__ import annotations

import importlib
import runpy
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np

REFERENCE = "https://github.com/zhu-xlab/AIO2"
COMMIT = "d59fdc28cfca7507163bee0d406e21fd54132450"
COMPUTED = (
    "png_insert_label_noises: an object shifted by 20 pairs of whole pixels and rotated by 12 angles; shifts and angles of "
    "2000 draws; masks of 4 images with 3 to 9 objects of which 40 % are removed"
)
SHIFTS, ANGLES, RATE = 20, (10, 30, 45, 60, 90, 120, 135, 180, 210, 250, 300, 350), 0.4


def building() -> Any:
    """Return a mask with one object of two parts of unlike size."""
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[24:42, 20:30], mask[34:42, 30:44] = 1, 1
    return mask


def generate(folder: Path) -> dict[str, Any]:
    """Return objects, drawn numbers, and results of the authors."""
    sys.path.insert(0, str(folder / "data_preparation"))
    reference, mask = importlib.import_module("png_insert_label_noises"), building()
    pairs = np.random.default_rng(0).integers(-12, 13, (SHIFTS, 2))
    shifted, rotated = [], []
    for pair in pairs.tolist():
        numbers = iter(pair)
        with mock.patch.object(reference, "randint", lambda low, high, left=numbers: next(left)):
            shifted.append(reference.shift_noise(mask))
    for angle in ANGLES:
        with mock.patch.object(reference, "randint", lambda low, high, value=angle: value):
            rotated.append(reference.rotate_noise(mask))
    reference.seed(0)
    draws = np.array([_centroid(reference.shift_noise(mask)) for _ in range(2000)]) - _centroid(mask)

    sys.argv = ["png_insert_label_noises.py"]
    with tempfile.TemporaryDirectory() as temporary:
        images = Path(temporary, "train", "seg")
        images.mkdir(parents=True)
        for number, count in enumerate((3, 5, 7, 9)):
            clean = np.zeros((48, 48), dtype=np.uint8)
            for place in range(count):
                row, column = 3 + 15 * (place // 3), 3 + 15 * (place % 3)
                clean[row : row + 6 + place, column : column + 8] = 1
            cv2.imwrite(str(images / f"{number}.png"), clean)
        sys.argv += [
            "--data_dir",
            temporary,
            "--save_dir_name",
            "noisy",
            "--ns_types",
            "remove",
            "--ns_rates",
            str(RATE),
        ]
        with mock.patch.object(cv2, "drawContours", _draw_wide):
            runpy.run_path(str(folder / "data_preparation" / "png_insert_label_noises.py"), run_name="__main__")
        before, after = (
            np.stack([cv2.imread(str(images.parent / name / f"{number}.png"), 0) for number in range(4)])
            for name in ("seg", "noisy")
        )
    return {
        "object": np.packbits(mask), "shifts": pairs, "shifted": np.packbits(shifted),
        "angles": np.array(ANGLES), "rotated": np.packbits(rotated), "displacements": draws.round(3).astype(np.float32)[:200],
        "spread": np.array([draws.mean(axis=0), draws.std(axis=0)]),
        "rate": np.array(RATE), "before": np.packbits(before), "after": np.packbits(after),
    }  # fmt: skip


def _draw_wide(image: Any, *values: Any, draw: Any = cv2.drawContours, **options: Any) -> None:
    """Draw on an image of 64-bit integers, which OpenCV takes no longer."""
    narrow = image.astype(np.int32)
    draw(narrow, *values, **options)
    image[:] = narrow


def _centroid(mask: Any) -> Any:
    return np.array([rows.mean() for rows in np.nonzero(mask)])
