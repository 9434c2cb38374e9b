"""Result of a detector, and the types of what detectors read."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

SMALLEST = 1e-12
"""Probability by which zeros are replaced in logarithms and quotients."""


class DetectorResult(NamedTuple):
    """Result of a detector for N examples.

    Attributes:
        scores: (N,) numbers, higher where the label is more likely incorrect.
        flagged: (N,) True where the detector takes the label for incorrect; None if it only ranks.
    """

    scores: Floats
    flagged: NDArray[np.bool_] | None = None
