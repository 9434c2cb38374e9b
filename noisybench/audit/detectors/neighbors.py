"""Detectors that read the labels of the nearest neighbors in features."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from noisybench.audit.detectors.result import DetectorResult, Labels
from noisybench.nn.neighbors import nearest_neighbors, unit_rows


def neighbors(*, labels: Labels, features: NDArray[np.float32], k: int = 20) -> DetectorResult:
    """Return the fraction of the `k` nearest other examples, by cosine similarity, with another label; flag a majority.

    Example:
        >>> points = np.array([[1, 0], [1, 0.1], [1, 0.2], [0, 1]], dtype=np.float32)
        >>> neighbors(labels=np.array([0, 1, 1, 1]), features=points, k=2).scores
        array([1. , 0.5, 0.5, 0. ])
    """
    points = unit_rows(torch.from_numpy(features))
    nearest = nearest_neighbors(points, points, min(k, len(points) - 1), own=torch.arange(len(points)))[1].numpy()
    scores = (labels[nearest] != labels[:, None]).mean(1)
    return DetectorResult(scores, scores > 0.5)
