"""Evidence of a submitted run: the predictions from which its scores follow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RunEvidence:
    """Predictions from which the scores of a run follow.

    Attributes:
        test_index: (M,) rows of the test split in the dataset's source.
        test_target: (M,) clean targets.
        test_by_epoch: (rows, M) predicted classes at each recorded row.
        test_probabilities: (M, C) class probabilities at the end.
        validation_index: (V,) rows of the validation split.
        validation_by_epoch: (rows, V) predicted classes at each recorded row.
        train_index: (N,) rows of the training split.
        train_observed: (N,) observed targets.
        label_quality: (N,) probability that the observed target is correct.
        prediction: (N,) predicted classes of the training examples at the end.
        corrected_labels: (N,) targets that the stack would use instead.
    """

    test_index: NDArray[np.int64]
    test_target: NDArray[np.int64]
    test_by_epoch: NDArray[np.int16]
    test_probabilities: NDArray[np.float32]
    validation_index: NDArray[np.int64]
    validation_by_epoch: NDArray[np.int16]
    train_index: NDArray[np.int64]
    train_observed: NDArray[np.int64]
    label_quality: NDArray[np.float32]
    prediction: NDArray[np.int16]
    corrected_labels: NDArray[np.int16]


ARRAY_TYPES: dict[str, tuple[str, int]] = {
    "test_index": ("i8", 1), "test_target": ("i8", 1), "test_by_epoch": ("i2", 2), "test_probabilities": ("f4", 2),
    "validation_index": ("i8", 1), "validation_by_epoch": ("i2", 2), "train_index": ("i8", 1), "train_observed": ("i8", 1),
    "label_quality": ("f4", 1), "prediction": ("i2", 1), "corrected_labels": ("i2", 1),
}  # fmt: skip
"""Type and number of dimensions of each array of `RunEvidence`."""
