"""Predictions and per-example records from which the scores of a run are computed."""

from __future__ import annotations

import typing
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Samples:
    """One record per training example, as columns of length N; masks and traces have one record per pixel or token.

    Attributes:
        index: (N,) row in the dataset's source.
        observed: (N,) observed target.
        clean: (N,) best known target; -1 for images of none of the classes, -2 if unknown.
        label_quality: (N,) probability that the observed target is correct.
        prediction: (N,) class predicted at the end.
        corrected_labels: (N,) target that the stack would use instead.
        detectors: (N,) scores by detector of the stack, and their flags as ``NAME_flagged``.

    Example:
        >>> zeros = np.zeros(2, dtype=np.int64)
        >>> samples = Samples(zeros, zeros, zeros, np.ones(2, np.float32), zeros, zeros, {"loss": np.ones(2)})
        >>> list(samples.columns())[-1]
        'detector_loss'
    """

    index: NDArray[np.int64]
    observed: NDArray[np.int64]
    clean: NDArray[np.int64]
    label_quality: NDArray[np.float32]
    prediction: NDArray[np.int64]
    corrected_labels: NDArray[np.int64]
    detectors: dict[str, NDArray[Any]] = field(default_factory=dict)

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return all columns of a table by name."""
        plain = {name: values for name, values in vars(self).items() if name != "detectors"}
        return plain | {f"detector_{name}": values for name, values in self.detectors.items()}


@dataclass(frozen=True)
class DetectorScores:
    """Output of one detector of a stack for the training examples at the end.

    Attributes:
        score: (N,) score, higher where the label is more likely incorrect.
        flagged: (N,) whether the detector treats the label as incorrect.
        mixture: weights, means and standard deviations of two components fitted to the score, if there are any.
    """

    score: NDArray[np.float32]
    flagged: NDArray[np.bool_]
    mixture: tuple[tuple[float, float], tuple[float, float], tuple[float, float]] | None = None


@dataclass(frozen=True)
class Predictions:
    """Test predictions.

    Attributes:
        index: (M,) row in the dataset's source.
        target: (M,) clean target.
        probabilities: (M, C) class probabilities at the end.
        by_epoch: (M, rows) predicted class at each recorded row, from which every accuracy can be computed again.
    """

    index: NDArray[np.int64]
    target: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    by_epoch: NDArray[np.int16]


EVIDENCE_FILE = "evidence.npz"
"""File of a run with its `MaskEvidence` or `TraceEvidence`."""

# Arrays of evidence, with their type in a file and their number of dimensions.
Rows = Annotated[NDArray[np.int64], "i8", 1]
Classes = Annotated[NDArray[np.int16], "i2", 1]
ClassesByEpoch = Annotated[NDArray[np.int16], "i2", 2]
Quality = Annotated[NDArray[np.float32], "f4", 1]
Probabilities = Annotated[NDArray[np.float32], "f4", 2]
Bytes = Annotated[NDArray[np.uint8], "u1", 1]
Lengths = Annotated[NDArray[np.int32], "i4", 2]
TokenQuality = Annotated[NDArray[np.float16], "f2", 2]
TokenClasses = Annotated[NDArray[np.int32], "i4", 2]


def array_types(evidence: type[Any]) -> dict[str, tuple[str, int]]:
    """Return type and number of dimensions of each array of a class of evidence.

    Example:
        >>> array_types(ClassEvidence)["test_by_epoch"]
        ('i2', 2)
    """
    hints = typing.get_type_hints(evidence, include_extras=True)
    return {name: hint.__metadata__ for name, hint in hints.items()}


@dataclass(frozen=True)
class ClassEvidence:
    """Predicted classes from which the scores of a run follow.

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

    test_index: Rows
    test_target: Rows
    test_by_epoch: ClassesByEpoch
    test_probabilities: Probabilities
    validation_index: Rows
    validation_by_epoch: ClassesByEpoch
    train_index: Rows
    train_observed: Rows
    label_quality: Quality
    prediction: Classes
    corrected_labels: Classes


@dataclass(frozen=True)
class MaskEvidence:
    """Predicted masks from which the scores of a segmentation run follow, as `data.masks.compressed` writes them.

    Attributes:
        test_index: (M,) rows of the test split in the dataset's source.
        test_by_epoch: bytes of the (M, H, W) predicted masks of each recorded row, one after the other.
        validation_index: (V,) rows of the validation split.
        validation_by_epoch: bytes of the (V, H, W) predicted masks of each recorded row; none without a validation split.
        train_index: (N,) rows of the training split.
        label_quality: (K,) probability that the observed class is correct, at the pixels of `sample_pixels`.
        prediction: bytes of the (N, H, W) predicted masks of the training images at the end.
        corrected_labels: bytes of the (N, H, W) masks that the stack would use instead of the observed ones.
    """

    test_index: Rows
    test_by_epoch: Bytes
    validation_index: Rows
    validation_by_epoch: Bytes
    train_index: Rows
    label_quality: Quality
    prediction: Bytes
    corrected_labels: Bytes


@dataclass(frozen=True)
class TraceEvidence:
    """Responses from which the scores of a chain-of-thought run follow, as `data.traces.packed_texts` writes them.

    Attributes:
        test_index: (M,) rows of the test split in the dataset's source.
        test_responses: bytes of the responses to the test prompts at each recorded row, one after the other.
        test_lengths: (rows, M) number of bytes of each.
        validation_index: (V,) rows of the validation split.
        validation_responses: bytes of the responses to the validation prompts at each recorded row.
        validation_lengths: (rows, V) number of bytes of each.
        sampled_responses: bytes of the responses to the test prompts at the end, sampled at temperature 1.
        sampled_lengths: (1, M) number of bytes of each.
        train_index: (N,) rows of the training split.
        label_quality: (N, T) probability that the observed character is correct.
        prediction: (N, T) most likely characters of the training traces at the end.
    """

    test_index: Rows
    test_responses: Bytes
    test_lengths: Lengths
    validation_index: Rows
    validation_responses: Bytes
    validation_lengths: Lengths
    sampled_responses: Bytes
    sampled_lengths: Lengths
    train_index: Rows
    label_quality: TokenQuality
    prediction: TokenClasses
