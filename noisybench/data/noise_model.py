"""The contract of noise models: a reproducible corruption of training and validation targets, and of inputs if need be."""

from __future__ import annotations

import abc
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import Configurable, parameter
from noisybench.data.dataset import Dataset, Split
from noisybench.data.label_set import LabelSet, ReplacedImages, make_label_set
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream


class NoiseModel(Configurable, abc.ABC):
    """Contract of a noise model: the observed targets of a split.

    A new noise model is one file in `noise_models/` with one subclass. Same dataset and parameters give the same
    bytes on every machine; the run's seed, network and batch size never touch a label. The random stream does not
    depend on the rate, so that a higher rate of the same seed corrupts a superset where the model allows it.
    """

    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    stream_name: ClassVar[str]
    """Name of this component in random streams. Never change it: it decides every drawn number."""
    convention: ClassVar[str]
    """What the rate means, in one sentence; part of the manifest."""
    requires_clean_labels: ClassVar[bool] = True
    """Whether it reads the true classes; it is then refused on a dataset in which some are not known."""

    seed: int = parameter(0, ge=0, help="seed of the noise; independent of the run's seed")

    @abc.abstractmethod
    def corrupt_labels(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[Any]:
        """Observed targets of one split.

        Args:
            dataset: the whole dataset; its test split must not influence the result.
            split: the training or validation split of it.
            stream: the only source of randomness.

        Returns:
            (N,) int64 targets in [0, C), or masks like the split's own.

        Raises:
            UserError: the parameters do not fit the dataset.
        """

    def error_spans(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[np.uint8] | None:
        """Of traces, what each character of the observed responses is (`labels.EVENTS`); None where targets are no traces."""
        return None

    def replace(self, dataset: Dataset, split: Split) -> ReplacedImages | None:
        """Images of none of the classes in place of some of a split's own; their observed targets are `corrupt_labels`'s."""
        return None

    def source_info(self, dataset: Dataset) -> dict[str, Any]:
        """Facts about where replacing images come from, for the manifest."""
        return {}

    def stream(self, dataset: Dataset, split: Split) -> Stream:
        """The random stream of a split, from its start."""
        name = "train" if split is dataset.train else "validation"
        return Stream("noise", dataset.hash, self.stream_name, self.seed, name)

    example_classes: ClassVar[tuple[str, ...]] = tuple("0123456789")
    """Class names of the dataset on which the contract test tries it."""

    @classmethod
    def example_dataset(cls, dataset: Dataset) -> Dataset:
        """What the contract test needs ``dataset`` to have for it; by default nothing more."""
        return dataset

    @classmethod
    def example(cls, dataset: Dataset, folder: Path) -> dict[str, Any]:
        """Parameters with which the contract test corrupts ``dataset``; files go into ``folder``."""
        return {}

    def nominal_rate(self, dataset: Dataset) -> float | None:
        """Rate as it was asked for, in the model's own convention; None where nothing was asked for."""
        return getattr(self, "rate", None)

    def matrix(self, dataset: Dataset) -> NDArray[np.float64] | None:
        """(C, C) transition probabilities, rows are clean classes; None where the noise depends on more."""
        return None

    def apply(self, dataset: Dataset) -> LabelSet:
        """Corrupt a dataset's training and validation split.

        Raises:
            UserError: the parameters do not fit the dataset, or it does not know the classes that the model needs.
        """
        splits = {"train": dataset.train, "validation": dataset.validation}
        if self.requires_clean_labels and any((split.targets < 0).any() for split in splits.values()):
            raise UserError(
                f"noise: `{self.name}` corrupts known classes, but those of {dataset.name} are not all known, for its labels "
                "are noisy already; use noise=native for the labels as they came"
            )
        observed = {
            name: self.corrupt_labels(dataset, each, self.stream(dataset, each)) for name, each in splits.items()
        }
        replaced = {name: self.replace(dataset, each) for name, each in splits.items()}
        events = {name: self.error_spans(dataset, each, self.stream(dataset, each)) for name, each in splits.items()}
        described = {
            "name": self.name,
            "parameters": self.parameters,
            "seed": self.seed,
            "convention": self.convention,
            "nominal_rate": self.nominal_rate(dataset),
            **self.source_info(dataset),
        }
        return make_label_set(
            dataset,
            observed["train"],
            observed["validation"],
            described,
            self.matrix(dataset),
            {name: each for name, each in replaced.items() if each is not None},
            {name: each for name, each in events.items() if each is not None},
        )

    @property
    def name(self) -> str:
        """The name in the registry: that of the file."""
        return type(self).__module__.rsplit(".", 1)[-1]


class ClassConditional(NoiseModel):
    """A noise model in which the clean class alone decides how likely each observed class is."""

    @abc.abstractmethod
    def matrix(self, dataset: Dataset) -> NDArray[np.float64]:
        """(C, C) transition probabilities; each row sums to one."""

    def corrupt_labels(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[np.int64]:
        """Draw each observed target from the row of its clean class."""
        return sample_transitions(self.matrix(dataset), split.targets, stream.uniform(len(split)))


def sample_transitions(
    matrix: NDArray[np.float64], targets: NDArray[np.int64], uniform: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Draw from the rows of a transition matrix that ``targets`` name.

    Args:
        matrix: (C, C) probabilities.
        targets: (N,) rows.
        uniform: (N,) numbers in [0, 1) on the grid of 2**-32.

    Returns:
        (N,) int64 columns. The target itself comes last in each row's order, so that with the same ``uniform`` a
        higher rate of the same shape corrupts a superset of the examples.
    """
    classes = len(matrix)
    # Column order of row c: c+1, c+2, ..., c. Rotating makes the clean class last in every row.
    rotated = matrix[
        np.arange(classes)[:, None], (np.arange(classes)[None, :] + np.arange(classes)[:, None] + 1) % classes
    ]
    cumulative = np.cumsum(rotated, axis=1)
    cumulative /= cumulative[:, -1:]
    # One search for all rows: row c occupies [c, c + 1). Exact, because `uniform` has 32 bits.
    ladder = (cumulative + np.arange(classes)[:, None]).ravel()
    column = np.searchsorted(ladder, uniform + targets, side="right") - targets * classes
    return ((column + targets + 1) % classes).astype(np.int64)


def check_exclusive_rate(rate: float, num_classes: int) -> None:
    """Refuse a rate at which the given label would be less likely than any other.

    Raises:
        UserError: the rate is above 1 - 1/C.
    """
    if rate > 1 - 1 / num_classes:
        raise UserError(
            f"noise.rate: must be in [0, {1 - 1 / num_classes:.4g}] for {num_classes} classes when every changed label "
            f"differs, but got {rate:g}: above that the true class would be the least likely label"
        )


def flip_matrix(destination: NDArray[np.int64], rate: float) -> NDArray[np.float64]:
    """(C, C) matrix that sends class c to ``destination[c]`` with probability ``rate``; no change where equal."""
    matrix = np.eye(len(destination)) * (1 - rate)
    matrix[np.arange(len(destination)), destination] += rate
    return matrix


def check_flip_rate(rate: float) -> None:
    """Refuse a rate at which the destination class would be more likely than the clean one.

    Raises:
        UserError: the rate is above 0.5.
    """
    if rate > 0.5:
        raise UserError(
            f"noise.rate: must be in [0, 0.5] where a class flips to one other class, but got {rate:g}: "
            "above that the wrong label would be the usual one"
        )
