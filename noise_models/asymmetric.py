"""Asymmetric noise: some classes flip to a similar class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.data.dataset import Dataset
from noisybench.data.noise_model import ClassConditional, check_flip_rate, flip_matrix
from noisybench.errors import UserError, nearest

CIFAR10 = {"truck": "automobile", "bird": "airplane", "cat": "dog", "dog": "cat", "deer": "horse"}
HANDWRITTEN_DIGITS = {"2": "7", "3": "8", "5": "6", "6": "5", "7": "1"}


class Asymmetric(ClassConditional):
    """Flip labels of some classes to a similar class with probability `rate` (Patrini et al. 2017).

    The built-in maps are the five-class map of CIFAR-10 (truck to automobile, bird to airplane, cat and dog to each
    other, deer to horse) and, for digits, 2 to 7, 3 to 8, 5 and 6 to each other, 7 to 1. Only mapped classes are
    corrupted: at a rate of 0.4 about 20 % of CIFAR-10's labels are incorrect.
    """

    stream_name = "Asymmetric"
    convention = (
        "only the mapped classes flip, each with this probability, so the fraction of incorrect labels is lower"
    )
    fidelity = Fidelity(
        reference="https://github.com/giorgiop/loss-correction",
        commit="15a79de3c67c31907733392085c333547c2f2b16",
        license="not stated",
        compared="the transition matrices of CIFAR-10 and MNIST at the rates .2 and .4",
        difference="0 in the matrix",
        golden=("loss_correction_noise",),
        deviations=(
            Deviation(
                "the code of ELR, which names the same noise, flips labels of dogs after those of cats, so "
                "that some cats are flipped back",
                "the matrix is that of the paper",
                "at the rate .4, 24 % of its cats become dogs instead of 40 %, and 18.4 % of all labels are "
                "incorrect instead of 20 %",
            ),
        ),
    )

    rate: float = parameter(
        0.4, ge=0, le=1, help="Probability that a label of a mapped class flips, at most 0.5", always_in_label=True
    )
    map: dict[str, str] | None = parameter(
        None, help="Map from class name to class name; required for classes without a built-in map", access="value"
    )

    def matrix(self, dataset: Dataset) -> NDArray[np.float64]:
        """Return 1 - rate on the diagonal of mapped classes, and rate at their destination."""
        check_flip_rate(self.rate)
        names = list(dataset.class_names)
        flips = self.map or _built_in_map(names)
        destination = np.arange(len(names))
        for source, target in flips.items():
            for name in (source, target):
                if name not in names:
                    raise UserError(f"noise.map: unknown class `{name}`; {nearest(name, names)}")
            destination[names.index(source)] = names.index(target)
        return flip_matrix(destination, self.rate)


def _built_in_map(names: list[str]) -> dict[str, str]:
    for known in (CIFAR10, HANDWRITTEN_DIGITS):
        # Class names decide instead of the dataset, so copies of CIFAR-10 in other formats have the map too.
        if len(names) == 10 and {*known, *known.values()} <= set(names):
            return known
    raise UserError(
        "noise.map: maps are built in for CIFAR-10's class names and for the digits 0 to 9, but this dataset has the classes "
        f"{', '.join(names[:6])}{' …' if len(names) > 6 else ''}; provide one, e.g. noise.map='{{{names[0]}: {names[-1]}}}'"
    )
