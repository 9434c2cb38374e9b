"""Pair flip: each class flips to the next one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noisybench.config.fidelity import Fidelity
from noisybench.config.parameters import parameter
from noisybench.data.dataset import Dataset
from noisybench.data.noise_model import ClassConditional, check_flip_rate, check_other_class, flip_matrix


class PairFlip(ClassConditional):
    """Flip each label to the next class index (the last to the first) with probability `rate` (Han et al. 2018)."""

    stream_name = "PairFlip"
    convention = "class c becomes class (c + 1) mod C, so the rate is the expected fraction of incorrect labels"
    fidelity = Fidelity(
        formula="P((y + 1) mod C | y) = rate,  P(y | y) = 1 - rate",
        reference="https://github.com/bhanML/Co-teaching",
        commit="7c7fbe23e15e517db76a0882b6d108e4508e09d6",
        license="not stated",
        compared="the transition matrix for 2, 3 and 10 classes at rates of .2 to .45; both draw each label from its "
        "row",
        difference="0 in the matrix",
        golden=("co_teaching_noise",),
    )

    rate: float = parameter(
        0.45, ge=0, le=1, help="Expected fraction of incorrect labels, at most 0.5", always_in_label=True
    )

    def matrix(self, dataset: Dataset) -> NDArray[np.float64]:
        """Return 1 - rate on the diagonal, and rate at the next class."""
        check_flip_rate(self.rate)
        check_other_class(dataset.num_classes)
        return flip_matrix((np.arange(dataset.num_classes) + 1) % dataset.num_classes, self.rate)
