"""Volumes with an object of known place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from noisybench.data.dataset import Dataset

Array = NDArray[Any]
Affine = NDArray[np.float64] | None
Change = Callable[[Array, Array], tuple[Array, Array, Affine, Affine]]
"""Maps volume and labels to other ones with their affines; None is the identity."""


def save(path: Path, array: Array, affine: Affine = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)


def unchanged(volume: Array, labels: Array) -> tuple[Array, Array, Affine, Affine]:
    return volume, labels, None, None


def patient(
    root: Path,
    number: int,
    shape: tuple[int, int, int] = (32, 32, 6),
    place: tuple[int, int, int, int] = (6, 12, 4, 20),
    change: Change = unchanged,
    suffix: str = ".nii.gz",
) -> None:
    """Write a patient with a bright box off the center, of class 3 of 5."""
    top, bottom, left, right = place
    box = slice(top + number % 3, bottom + number % 3), slice(left, right), slice(1, None)
    volume, labels = np.full(shape, -100, np.float32), np.zeros(shape, np.uint8)
    volume[box], labels[box] = 250, 3
    volume, labels, volume_affine, labels_affine = change(volume, labels)
    save(root / f"P{number}" / f"P{number}{suffix}", volume, volume_affine)
    save(root / f"P{number}" / f"GT{suffix}", labels, labels_affine)


def overlap(data: Dataset, label: int = 3) -> tuple[float, int]:
    """Return the fraction of labeled pixels that lie on the bright box, over all splits, and their number."""
    hits = total = 0
    for split in (data.train, data.validation, data.test):
        if len(split):
            bright, inside = split.inputs[:][:, 0] > 128, split.targets == label
            hits += int((bright & inside).sum())
            total += int(inside.sum())
    return hits / max(total, 1), total
