"""CIFAR-100's asymmetric noise as coded in ELR."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.data.dataset import Dataset
from noisybench.data.noise_model import ClassConditional, check_flip_rate, flip_matrix
from noisybench.errors import UserError


class AsymmetricIndexBlock5(ClassConditional):
    """Each label becomes the next class id within its block of five consecutive ids, with probability `rate`.

    This is what the ELR code does on CIFAR-100 (Liu et al. 2020). CIFAR-100's ids are alphabetical, so these blocks
    are not its superclasses; `asymmetric_superclass_uniform` is the other convention.
    """

    stream_name = "AsymmetricIndexBlock5"
    convention = (
        "the next class id inside blocks of five consecutive ids; the rate is the expected share of wrong labels"
    )

    rate: float = parameter(0.4, ge=0, le=1, help="expected share of wrong labels, at most 0.5", always_in_label=True)

    def matrix(self, dataset: Dataset) -> NDArray[np.float64]:
        """1 - rate on the diagonal, rate on the next id of the block."""
        check_flip_rate(self.rate)
        if dataset.num_classes % 5:
            raise UserError(
                f"noise: blocks of five need a multiple of five classes, but there are {dataset.num_classes}"
            )
        ids = np.arange(dataset.num_classes)
        return flip_matrix(ids // 5 * 5 + (ids + 1) % 5, self.rate)
