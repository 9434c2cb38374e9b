"""No noise: the labels are the best known targets."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.config.fidelity import Fidelity
from noisybench.data.dataset import Dataset, Split
from noisybench.data.noise_model import ClassConditional
from noisybench.utils.seeds import Stream


class Clean(ClassConditional):
    """Keep the best known targets as observed labels."""

    stream_name = "Clean"
    tasks = ("classification", "segmentation", "chain_of_thought")
    convention = "no label is changed"
    fidelity = Fidelity(
        reference="",
        commit="",
        compared="that no label is changed",
    )

    def corrupt_labels(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[Any]:
        """Return a copy of the targets."""
        return split.targets.copy()

    def nominal_rate(self, dataset: Dataset) -> float:
        """Return zero."""
        return 0.0

    def matrix(self, dataset: Dataset) -> NDArray[np.float64]:
        """Return the identity."""
        return np.eye(dataset.num_classes)
