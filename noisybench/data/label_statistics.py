"""Label statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.data.targets import Targets, is_labeled

PORTION = 1024
"""Masks that are counted at a time."""


def transition_counts(clean: Targets, observed: Targets, num_classes: int) -> NDArray[np.int64]:
    """(C, C) counts: row is the clean class, column the observed one; what has no known class is left out."""
    counts = np.zeros(num_classes**2, dtype=np.int64)
    for start in range(0, len(clean), PORTION):  # masks would need eight times their memory at once
        rows, columns = clean[start : start + PORTION], observed[start : start + PORTION]
        counted = is_labeled(rows) & is_labeled(columns)
        place = rows[counted].astype(np.int64) * num_classes + columns[counted]
        counts += np.bincount(place, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def intersection_over_union(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(C,) IoU of each class from (C, C) counts of pairs, pooled over all pixels; NaN for a class that occurs nowhere."""
    both = np.diag(counts).astype(np.float64)
    union = counts.sum(0) + counts.sum(1) - both
    return np.asarray(np.divide(both, union, out=np.full(len(both), np.nan), where=union > 0))


def mask_statistics(counts: NDArray[np.int64]) -> dict[str, Any]:
    """What noise has left of masks, from (C, C) counts of clean and observed classes; class 0 is the background.

    Returns:
        `iou` by class (None where it occurs nowhere), their mean over the other classes than the background (`miou`), and the
        area of these after minus before, as a share of that before (`area_bias`).
    """
    iou = intersection_over_union(counts)
    clean, observed = int(counts[1:].sum()), int(counts[:, 1:].sum())
    return {
        "miou": None if np.isnan(iou[1:]).all() else float(np.nanmean(iou[1:])),
        "iou": [None if np.isnan(each) else float(each) for each in iou],
        "area_bias": observed / clean - 1 if clean else None,
    }
