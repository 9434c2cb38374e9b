"""Statistics of noisy masks, from transition counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def intersection_over_union(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the IoU of each class, pooled over all pixels.

    Args:
        counts: (C, C) transition counts.

    Returns:
        (C,) IoU in [0, 1]; NaN for a class that does not occur.

    Examples:
        >>> intersection_over_union(np.array([[3, 1], [0, 4]]))
        array([0.75, 0.8 ])
    """
    both = np.diag(counts).astype(np.float64)
    # `where` leaves NaN for absent classes without a division by zero. Shapes are (C,).
    union = counts.sum(0) + counts.sum(1) - both
    return np.asarray(np.divide(both, union, out=np.full(len(both), np.nan), where=union > 0))


def mask_statistics(counts: NDArray[np.int64], has_background: bool = True) -> dict[str, Any]:
    """Return how far noisy masks differ from the clean ones.

    Args:
        counts: (C, C) transition counts of clean and observed classes.
        has_background: class 0 is the background.

    Returns:
        `iou` of each class (None where it does not occur), their mean over the foreground classes, or all classes without
        a background (`miou`), and the relative change of the foreground area (`area_bias`, None without a background).

    Examples:
        >>> mask_statistics(np.array([[3, 1], [0, 4]]))
        {'miou': 0.8, 'iou': [0.75, 0.8], 'area_bias': 0.25}
    """
    # The manifest is JSON, which has no NaN, so absent classes become None below.
    iou = intersection_over_union(counts)
    averaged = iou[1:] if has_background else iou
    clean, observed = int(counts[1:].sum()), int(counts[:, 1:].sum())
    return {
        "miou": None if np.isnan(averaged).all() else float(np.nanmean(averaged)),
        "iou": [None if np.isnan(value) else float(value) for value in iou],
        "area_bias": observed / clean - 1 if clean and has_background else None,
    }
