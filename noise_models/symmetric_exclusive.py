"""Symmetric noise without the clean class: corrupted labels always differ."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noisybench.config.fidelity import Fidelity
from noisybench.config.parameters import parameter
from noisybench.data.dataset import Dataset
from noisybench.data.noise_model import ClassConditional, check_exclusive_rate


class SymmetricExclusive(ClassConditional):
    """Replace each label by one of the C - 1 other classes, all equally likely, with probability `rate`.

    This is the convention of co-teaching (Han et al. 2018): the rate is the expected fraction of incorrect labels.
    """

    stream_name = "SymmetricExclusive"
    convention = (
        "the new label is drawn from the other classes, so the rate is the expected fraction of incorrect labels"
    )
    fidelity = Fidelity(
        formula="P(k | y) = rate / (C - 1) for k ≠ y,  P(y | y) = 1 - rate",
        reference="https://github.com/bhanML/Co-teaching",
        commit="7c7fbe23e15e517db76a0882b6d108e4508e09d6",
        license="not stated",
        compared="the transition matrix for 2, 3 and 10 classes at rates of .2 to .45; both draw each label from its "
        "row",
        difference="0 in the matrix",
        golden=("co_teaching_noise",),
    )

    rate: float = parameter(
        0.4, ge=0, lt=1, help="Expected fraction of incorrect labels, at most 1 - 1/C", always_in_label=True
    )

    def matrix(self, dataset: Dataset) -> NDArray[np.float64]:
        """Return 1 - rate on the diagonal, and rate / (C - 1) elsewhere."""
        classes = dataset.num_classes
        check_exclusive_rate(self.rate, classes)
        # The constant is on the diagonal too, so it is subtracted there.
        return np.full((classes, classes), self.rate / (classes - 1)) + np.eye(classes) * (
            1 - self.rate - self.rate / (classes - 1)
        )
