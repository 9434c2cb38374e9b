"""A noise model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.data.dataset import Dataset
from noisybench.data.noise_model import ClassConditional


class PluginFlip(ClassConditional):
    """Flip every class to class zero with a given probability."""

    stream_name = "plugin_flip"
    convention = "all classes but zero flip to zero"

    rate: float = parameter(0.2, ge=0, le=0.5, help="Fraction of labels of the other classes that flip")

    def matrix(self, dataset: Dataset) -> NDArray[np.float64]:
        """1 - rate on the diagonal, rate in the first column."""
        matrix = np.eye(dataset.num_classes) * (1 - self.rate)
        matrix[:, 0] += self.rate
        return matrix
