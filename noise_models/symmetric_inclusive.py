"""Symmetric noise including the clean class: a redrawn label may be correct."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.data.dataset import Dataset
from noisybench.data.noise_model import ClassConditional


class SymmetricInclusive(ClassConditional):
    """Redraw each label from all C classes with probability `rate`, so a fraction rate * (1 - 1/C) becomes incorrect.

    This is the convention of the DivideMix and ELR code (Li et al. 2020, Liu et al. 2020).
    """

    stream_name = "SymmetricInclusive"
    convention = (
        "the new label is drawn from all classes, so only a fraction rate * (1 - 1/C) of the labels is incorrect"
    )

    rate: float = parameter(
        0.5,
        ge=0,
        le=1,
        help="Fraction of labels that are redrawn; rate * (1 - 1/C) become incorrect",
        always_in_label=True,
    )

    def matrix(self, dataset: Dataset) -> NDArray[np.float64]:
        """Return 1 - rate + rate / C on the diagonal, and rate / C elsewhere."""
        classes = dataset.num_classes
        return np.full((classes, classes), self.rate / classes) + np.eye(classes) * (1 - self.rate)
