"""Asymmetric noise of CIFAR-100 in blocks of class indices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noisybench.config.fidelity import Fidelity
from noisybench.config.parameters import parameter
from noisybench.data.dataset import Dataset
from noisybench.data.noise_model import ClassConditional, check_flip_rate, flip_matrix
from noisybench.errors import UserError


class AsymmetricIndexBlock5(ClassConditional):
    """Flip each label to the next class index in its block of five consecutive indices with probability `rate`.

    This is the noise of Patrini et al. (2017) on CIFAR-100, which the codes of ELR and others have taken over. The paper
    speaks of superclasses, but CIFAR-100's indices are alphabetical, so that these blocks are not its superclasses;
    `asymmetric_superclass_uniform` is the other convention.
    """

    stream_name = "AsymmetricIndexBlock5"
    convention = (
        "the next class index in blocks of five consecutive indices; the rate is the expected fraction of incorrect "
        "labels"
    )
    fidelity = Fidelity(
        reference="https://github.com/giorgiop/loss-correction",
        commit="15a79de3c67c31907733392085c333547c2f2b16",
        license="not stated",
        compared="the transition matrix of CIFAR-100 at the rates .2 and .4",
        difference="0 in the matrix",
        golden=("loss_correction_noise",),
    )

    rate: float = parameter(
        0.4, ge=0, le=1, help="Expected fraction of incorrect labels, at most 0.5", always_in_label=True
    )

    def matrix(self, dataset: Dataset) -> NDArray[np.float64]:
        """Return 1 - rate on the diagonal, and rate at the next index of the block."""
        check_flip_rate(self.rate)
        if dataset.num_classes % 5:
            raise UserError(
                f"noise: blocks of five need a multiple of five classes, but the dataset has {dataset.num_classes}"
            )
        indices = np.arange(dataset.num_classes)
        # Blocks start at multiples of five, so the offset wraps around modulo five within its block.
        return flip_matrix(indices // 5 * 5 + (indices + 1) % 5, self.rate)
