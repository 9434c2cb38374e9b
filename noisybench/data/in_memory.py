"""Datasets of what people hold in memory: arrays, tensors, data frames, lists, and data sets of other libraries.

examples = read_examples(X, y)
dataset = examples.dataset()                    # what noise models and training read
examples.labels.restore(observed_classes)       # labels in the form in which y came
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from noisybench.data.dataset import Dataset, Split
from noisybench.data.images.arrays import Channels
from noisybench.data.in_memory_inputs import InMemoryInputs, no_inputs, read_inputs
from noisybench.data.in_memory_labels import InMemoryLabels, read_labels
from noisybench.data.labels.class_labels import IntegerLabels
from noisybench.errors import UserError, show

AUTO: IntegerLabels = "auto"
NAMES: IntegerLabels = "names"

NAME, NAME_OF_LABELS = "in_memory", "in_memory_labels"
"""Names of datasets that were not read from files; the second of those whose inputs are not known."""


@dataclass(frozen=True)
class Examples:
    """Inputs and labels of the same examples.

    Attributes:
        labels: their labels.
        inputs: their inputs, or None if only labels are known.
    """

    labels: InMemoryLabels
    inputs: InMemoryInputs | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def split(self) -> Split:
        """Return the examples as one split, whose index counts them from 0."""
        inputs = no_inputs(len(self)) if self.inputs is None else self.inputs.inputs
        return Split(inputs, self.labels.targets, np.arange(len(self)))

    def dataset(
        self,
        validation: Examples | None = None,
        test: Examples | None = None,
        has_background: bool = True,
        name: str | None = None,
    ) -> Dataset:
        """Return a dataset of which these are the training examples.

        Args:
            validation: examples of the validation split, without any by default.
            test: examples of the test split, without any by default.
            has_background: class 0 of masks is the background.
            name: name of the dataset (default: one that says whether inputs are known).

        Raises:
            UserError: the splits have other classes or inputs of another shape.
        """
        train = self.split()
        splits = {"train": train, "validation": _empty(train), "test": _empty(train)}
        for role, part in (("validation", validation), ("test", test)):
            if part is None:
                continue
            splits[role] = part.split()
            if part.labels.class_names != self.labels.class_names:
                raise UserError(
                    f"{role}: its classes are not those of the training examples; pass class_names for both"
                )
            if splits[role].inputs.shape[1:] != train.inputs.shape[1:]:
                shapes = [tuple(split.inputs.shape[1:]) for split in (splits[role], train)]
                raise UserError(
                    f"{role}: its inputs have the shape {shapes[0]}, but the training inputs {shapes[1]}; convert them to one"
                )
        return Dataset(
            name or (NAME_OF_LABELS if self.inputs is None else NAME),
            splits["train"],
            splits["validation"],
            splits["test"],
            self.labels.class_names,
            source_size=len(self),
            has_background=has_background,
        )


def read_examples(
    X: Any,
    y: Any,
    class_names: Sequence[Any] | int | None = None,
    channels: Channels | None = None,
    integer_labels: IntegerLabels = "auto",
) -> Examples:
    """Read inputs and labels of the same examples.

    Args:
        X: images, features or texts, see `read_inputs`; None if only labels are known.
        y: classes or masks, see `read_labels`.
        class_names: names of all classes in the order of their indices, or their number; by default, the labels that occur.
        channels: position of the color channels, ``"first"`` or ``"last"``, if the shape allows both.
        integer_labels: meaning of integers beside ``class_names``, see `read_labels`.

    Raises:
        UserError: X and y have different lengths, or one of them cannot be read.

    Examples:
        >>> examples = read_examples(np.eye(3), ["cat", "dog", "cat"])
        >>> examples.labels.targets, examples.inputs.inputs.shape
        (array([0, 1, 0]), (3, 3, 1, 1))
        >>> read_examples(np.eye(3), [0, 1])
        Traceback (most recent call last):
        noisybench.errors.UserError: X has 3 examples, but y has 2 labels; each example needs one label
    """
    check_lengths(X, y)
    inputs = None if X is None else read_inputs(X, channels)
    examples = Examples(read_labels(y, class_names, integer_labels=integer_labels), inputs)
    if inputs is not None and examples.labels.targets.ndim == 3:
        _check_masks(inputs, examples.labels)
    return examples


def check_lengths(X: Any, y: Any) -> None:
    """Refuse inputs and labels of different lengths.

    Args:
        X: inputs, or None.
        y: labels.

    Raises:
        UserError: their lengths differ.
    """
    for location, each in (("X", X), ("y", y)):
        if getattr(each, "ndim", 1) == 0:
            raise UserError(f"{location} must have an entry for each example, but is the single value {show(each)}")
    lengths = _length(X), _length(y)
    if None not in lengths and lengths[0] != lengths[1]:
        raise UserError(f"X has {lengths[0]} examples, but y has {lengths[1]} labels; each example needs one label")


def in_memory_dataset(
    X: Any,
    y: Any,
    class_names: Sequence[Any] | int | None = None,
    *,
    validation: tuple[Any, Any] | None = None,
    test: tuple[Any, Any] | None = None,
    channels: Channels | None = None,
    has_background: bool = True,
    name: str = NAME,
) -> Dataset:
    """Return a dataset of arrays, tensors, data frames or lists.

    Args:
        X: inputs of the training examples, see `read_inputs`; None if only labels are known.
        y: their labels, see `read_labels`.
        class_names: names of all classes in the order of their indices, or their number; by default, the labels that occur.
        validation: inputs and labels of the validation split, which has no examples by default.
        test: inputs and labels of the test split, which has no examples by default.
        channels: position of the color channels, if the shape allows both.
        has_background: class 0 of masks is the background.
        name: name of the dataset.

    Raises:
        UserError: lengths, shapes, types or labels do not fit; the message names the argument, and the row.

    Example:
        >>> dataset = in_memory_dataset(np.zeros((4, 8, 8, 3), np.uint8), ["cat", "dog", "cat", "dog"])
        >>> dataset.class_names, dataset.train.inputs.shape, len(dataset.test)
        (('cat', 'dog'), (4, 3, 8, 8), 0)
    """
    train = read_examples(X, y, class_names, channels)
    parts: dict[str, Examples] = {}
    for role, part in (("validation", validation), ("test", test)):
        if part is not None:
            # Classes of the training labels, as they write them, so that these labels are read in the same way.
            names, meaning = (class_names, AUTO) if class_names is not None else (train.labels.class_names, NAMES)
            parts[role] = read_examples(*part, class_names=names, channels=channels, integer_labels=meaning)
    return train.dataset(parts.get("validation"), parts.get("test"), has_background, name)


def _length(values: Any) -> int | None:
    """Return the number of examples; None if it is unknown, as for a single number."""
    # Sparse matrices have a shape, but no length.
    if hasattr(values, "shape"):
        return int(values.shape[0]) if len(values.shape) else None
    return len(values) if hasattr(values, "__len__") else None


def _empty(split: Split) -> Split:
    """Return a split of the same kind without examples."""
    return Split(split.inputs[:0], split.targets[:0], split.index[:0])


def _check_masks(inputs: InMemoryInputs, labels: InMemoryLabels) -> None:
    """Refuse masks that do not have the size of their images.

    Raises:
        UserError: a pixel has no label, or a label no pixel.
    """
    if inputs.kind != "images" or inputs.inputs.shape[2:] != labels.targets.shape[1:]:
        raise UserError(
            f"y has masks of the shape {labels.targets.shape[1:]}, but X {inputs.kind} of the shape "
            f"{tuple(inputs.inputs.shape[1:])}; each pixel needs one label"
        )
