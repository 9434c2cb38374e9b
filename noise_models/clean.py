"""No noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noisybench.dataset import Dataset
from noisybench.noise import ClassConditional


class Clean(ClassConditional):
    """No noise: the observed targets are the best known ones."""

    convention = "no label is changed"

    def nominal_rate(self, dataset: Dataset) -> float:
        """Zero."""
        return 0.0

    def matrix(self, dataset: Dataset) -> NDArray[np.float64]:
        """The identity."""
        return np.eye(dataset.num_classes)
