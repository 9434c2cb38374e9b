"""The contract of noise models: a reproducible corruption of training and validation labels, and of images if needed."""

from __future__ import annotations

import abc
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from noisybench.config.licenses import License
from noisybench.config.parameters import Configurable, parameter
from noisybench.data.dataset import Dataset, Split
from noisybench.data.label_sets.label_set import SPLITS, LabelSet, ReplacedImages, make_label_set
from noisybench.data.label_sets.manifest import noise_entry
from noisybench.data.labels.verification import Verification
from noisybench.data.labels.votes import Votes
from noisybench.data.notes import ReadingNote
from noisybench.data.targets import Targets
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream

TARGETS_OF_TASK = {
    "classification": "classes", "transfer": "classes", "segmentation": "masks", "chain_of_thought": "tokens",
    "step_verification": "classes",
}  # fmt: skip
"""Kind of the targets of a task, see `TargetKind.name`; of other tasks it is unknown."""


class NoiseModel(Configurable, abc.ABC):
    """Contract of a noise model, which corrupts the labels of a split.

    A new noise model is one file in `noise_models/` with one subclass. The same dataset and parameters give the same
    bytes on every machine; the run's seed, network and batch size never affect a label. The random stream does not
    depend on the noise rate, so a higher rate with the same seed corrupts a superset where the model allows it.

    Examples:
        >>> class NextClass(NoiseModel):
        ...     stream_name = "next_class"
        ...     convention = "fraction of labels that become the next class"
        ...     rate: float = parameter(0.5, ge=0, le=1, help="Fraction of labels to corrupt")
        ...     def corrupt_labels(self, dataset, split, stream):
        ...         flipped = stream.uniform(len(split)) < self.rate
        ...         return (split.targets + flipped) % dataset.num_classes
        >>> split = Split(np.zeros((100, 1, 8, 8), np.uint8), targets=np.arange(100) % 4, index=np.arange(100))
        >>> dataset = Dataset("toy", split, split, split, ("a", "b", "c", "d"), source_size=100)
        >>> NextClass(rate=0.2).apply(dataset).manifest["actual_noise_rate"]
        0.24
    """

    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    stream_name: ClassVar[str]
    """Name of this component in random streams. Never change it: it decides every drawn number."""
    convention: ClassVar[str]
    """Meaning of the rate in one sentence; part of the manifest."""
    license: ClassVar[License | None] = None
    """License of labels or images that others have made; None if the model makes all of them."""
    requires_clean_labels: ClassVar[bool] = True
    """True if the model reads clean classes; it then rejects datasets in which some are unknown."""
    example_classes: ClassVar[tuple[str, ...]] = tuple("0123456789")
    """Class names of the dataset on which the contract test applies the model."""

    seed: int = parameter(0, ge=0, help="Random seed of the noise (independent of the run's seed)")

    @abc.abstractmethod
    def corrupt_labels(self, dataset: Dataset, split: Split, stream: Stream) -> Targets:
        """Return the observed targets of one split.

        Args:
            dataset: the whole dataset; its test split must not influence the result.
            split: its training or validation split.
            stream: the only source of randomness.

        Returns:
            Targets with the shape and type of ``split.targets``; classes are in [0, C). `UNKNOWN_TARGET` stands for an
            example without a label, which is not trained on.

        Raises:
            UserError: the parameters do not fit the dataset.
        """

    def error_spans(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[np.uint8] | None:
        """Return the position in `TOKEN_STATUS` of each character of the observed traces; None for other targets."""
        return None

    def replace_images(self, dataset: Dataset, split: Split) -> ReplacedImages | None:
        """Return out-of-distribution images that replace images of the split; `corrupt_labels` gives their labels."""
        return None

    def votes(self, dataset: Dataset) -> Votes | None:
        """Return the labels of several annotators from which `corrupt_labels` chooses; None if there are none."""
        return None

    def verification(self, dataset: Dataset) -> Verification | None:
        """Return the labels that people have verified, which `corrupt_labels` uses; None if there are none."""
        return None

    def notes(self, dataset: Dataset) -> tuple[ReadingNote, ...]:
        """Return facts about the reading of labels that a user should know; called after `corrupt_labels`."""
        return ()

    def source_info(self, dataset: Dataset) -> dict[str, Any]:
        """Return the details of the noise for the manifest, such as the origin of replacing images."""
        return {}

    def stream(self, dataset: Dataset, split: Split) -> Stream:
        """Return the random stream of a split, from its start."""
        # By identity, because splits hold arrays, whose comparison has no single truth value.
        name = "train" if split is dataset.train else "validation"
        return Stream("noise", dataset.hash, self.stream_name, self.seed, name)

    @classmethod
    def example_dataset(cls, dataset: Dataset) -> Dataset:
        """Return ``dataset`` with what the model needs in the contract test; unchanged by default."""
        return dataset

    @classmethod
    def example(cls, dataset: Dataset, folder: Path) -> dict[str, Any]:
        """Return parameters with which the contract test corrupts ``dataset``; files may be written to ``folder``."""
        return {}

    def nominal_rate(self, dataset: Dataset) -> float | None:
        """Return the requested noise rate in the model's own convention; None if there is none."""
        return getattr(self, "rate", None)

    def matrix(self, dataset: Dataset) -> NDArray[np.float64] | None:
        """Return the (C, C) transition probabilities, rows are clean classes; None if noise depends on more."""
        return None

    def apply(self, dataset: Dataset) -> LabelSet:
        """Corrupt the training and validation split of a dataset.

        Raises:
            UserError: the parameters do not fit the dataset, or clean classes that the model needs are unknown.
        """
        kinds = {TARGETS_OF_TASK.get(task, dataset.target_kind.name) for task in self.tasks}
        if dataset.target_kind.name not in kinds:
            raise UserError(
                f"noise: `{self.name}` corrupts {' or '.join(sorted(kinds))}, but the targets of {dataset.name} are "
                f"{dataset.target_kind.name}; choose another noise model (`noisybench list noise_models`)"
            )
        splits = {name: getattr(dataset, name) for name in SPLITS}
        if self.requires_clean_labels and any((split.targets < 0).any() for split in splits.values()):
            raise UserError(
                f"noise: `{self.name}` corrupts clean classes, but some classes of {dataset.name} are unknown because its "
                "labels are noisy already; use noise=real_world to train on the labels that come with the data"
            )
        # Labels and error spans both start at the beginning of the stream, so they see the same random numbers.
        observed = {
            name: self.corrupt_labels(dataset, split, self.stream(dataset, split)) for name, split in splits.items()
        }
        replaced = {name: self.replace_images(dataset, split) for name, split in splits.items()}
        spans = {name: self.error_spans(dataset, split, self.stream(dataset, split)) for name, split in splits.items()}
        noise = noise_entry(
            self.name,
            self.convention,
            parameters=self.parameters,
            seed=self.seed,
            nominal_rate=self.nominal_rate(dataset),
            details=self.source_info(dataset),
        )
        return make_label_set(
            dataset,
            observed["train"],
            observed["validation"],
            noise,
            self.matrix(dataset),
            {name: images for name, images in replaced.items() if images is not None},
            {name: status for name, status in spans.items() if status is not None},
            self.votes(dataset),
            self.notes(dataset),
            self.verification(dataset),
        )

    @property
    def requires_inputs(self) -> bool:
        """True if the labels depend on the inputs, or if the model replaces some; else labels alone are enough."""
        return False

    @property
    def trains_networks(self) -> bool:
        """True if trained networks make the labels, so that other machines may make slightly different ones."""
        return False

    @property
    def name(self) -> str:
        """Name in the registry, which is the file name."""
        return type(self).__module__.rsplit(".", 1)[-1]


class ClassConditional(NoiseModel):
    """A noise model in which the clean class alone decides the probability of each observed class.

    Examples:
        >>> class Confusion(ClassConditional):
        ...     stream_name = "confusion"
        ...     convention = "class 0 becomes class 1 in half of all cases"
        ...     def matrix(self, dataset):
        ...         return np.array([[0.5, 0.5], [0.0, 1.0]])
        >>> split = Split(np.zeros((8, 1, 8, 8), np.uint8), targets=np.arange(8) % 2, index=np.arange(8))
        >>> Confusion().apply(Dataset("toy", split, split, split, ("a", "b"), 8)).train
        array([1, 1, 1, 1, 0, 1, 0, 1])
    """

    @abc.abstractmethod
    def matrix(self, dataset: Dataset) -> NDArray[np.float64]:
        """Return the (C, C) transition probabilities; each row sums to one."""

    def corrupt_labels(self, dataset: Dataset, split: Split, stream: Stream) -> Targets:
        """Draw each observed target from the row of its clean class."""
        return sample_transitions(self.matrix(dataset), split.targets, stream.uniform(len(split)))


def sample_transitions(
    matrix: NDArray[np.float64], targets: NDArray[np.int64], uniform: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Sample observed classes from the rows of a transition matrix.

    Args:
        matrix: (C, C) probabilities.
        targets: (N,) clean classes, which select the rows.
        uniform: (N,) numbers in [0, 1) on the grid of 2**-32.

    Returns:
        (N,) int64 observed classes. The clean class comes last in each row's order, so with the same ``uniform`` a
        higher rate of the same shape corrupts a superset of the examples.

    Examples:
        >>> matrix = np.array([[0.6, 0.4], [0.0, 1.0]])
        >>> sample_transitions(matrix, np.array([0, 0, 1]), np.array([0.25, 0.75, 0.25]))
        array([1, 0, 1])
    """
    classes = len(matrix)
    # Column order of row c: c+1, c+2, ..., c. The rotation puts the clean class last in every row.
    rotated = matrix[
        np.arange(classes)[:, None], (np.arange(classes)[None, :] + np.arange(classes)[:, None] + 1) % classes
    ]
    cumulative = np.cumsum(rotated, axis=1)
    # Rounding could leave the last sum below 1, and a number above it would fall into the next row.
    cumulative /= cumulative[:, -1:]
    # One search for all rows: row c occupies [c, c + 1). Exact, because `uniform` has 32 bits.
    ladder = (cumulative + np.arange(classes)[:, None]).ravel()
    # With side="right" a number on a boundary belongs to the class after it, so probability 0 means never.
    column = np.searchsorted(ladder, uniform + targets, side="right") - targets * classes
    return ((column + targets + 1) % classes).astype(np.int64)


def flip_matrix(destination: NDArray[np.int64], rate: float) -> NDArray[np.float64]:
    """Return the (C, C) matrix that sends class c to ``destination[c]`` with probability ``rate``.

    Args:
        destination: (C,) class that each class becomes; a class that is its own destination does not change.
        rate: probability, the same for all classes.

    Examples:
        >>> flip_matrix(np.array([1, 1, 2]), rate=0.25)
        array([[0.75, 0.25, 0.  ],
               [0.  , 1.  , 0.  ],
               [0.  , 0.  , 1.  ]])
    """
    matrix = np.eye(len(destination)) * (1 - rate)
    # Added instead of assigned, so that a class that is its own destination keeps probability 1.
    matrix[np.arange(len(destination)), destination] += rate
    return matrix


def check_exclusive_rate(rate: float, num_classes: int) -> None:
    """Reject a rate at which the clean class would be less likely than any other.

    Raises:
        UserError: the rate is above 1 - 1/C, or there is only one class.
    """
    check_other_class(num_classes)
    if rate > 1 - 1 / num_classes:
        raise UserError(
            f"noise.rate: must be in [0, {1 - 1 / num_classes:.4g}] for {num_classes} classes if every corrupted label "
            f"differs, but got {rate:g}; above that limit the clean class would be the least likely label"
        )


def check_other_class(num_classes: int) -> None:
    """Reject a dataset in which no label can be replaced by another class.

    Raises:
        UserError: there is only one class.

    Example:
        >>> check_other_class(1)
        Traceback (most recent call last):
        noisybench.errors.UserError: noise: incorrect labels need another class, but the dataset has one class; use noise=clean
    """
    if num_classes < 2:
        raise UserError("noise: incorrect labels need another class, but the dataset has one class; use noise=clean")


def check_flip_rate(rate: float) -> None:
    """Reject a rate at which the destination class would be more likely than the clean one.

    Raises:
        UserError: the rate is above 0.5.
    """
    if rate > 0.5:
        raise UserError(
            f"noise.rate: must be in [0, 0.5] for noise that flips a class to one other class, but got {rate:g}; above that "
            "limit most labels of the class would be incorrect"
        )
