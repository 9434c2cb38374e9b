"""Symmetric noise whose new label may be the old one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.data.dataset import Dataset
from noisybench.data.noise_model import ClassConditional


class SymmetricInclusive(ClassConditional):
    """Each label is redrawn, with probability `rate`, from all C classes, so rate * (1 - 1/C) of them change.

    The convention of the DivideMix and ELR code (Li et al. 2020, Liu et al. 2020).
    """

    stream_name = "SymmetricInclusive"
    convention = "the new label is drawn from all classes, so only rate * (1 - 1/C) of the labels are wrong"

    rate: float = parameter(
        0.5, ge=0, le=1, help="share of labels redrawn; rate * (1 - 1/C) become wrong", always_in_label=True
    )

    def matrix(self, dataset: Dataset) -> NDArray[np.float64]:
        """1 - rate + rate / C on the diagonal, rate / C elsewhere."""
        classes = dataset.num_classes
        return np.full((classes, classes), self.rate / classes) + np.eye(classes) * (1 - self.rate)
