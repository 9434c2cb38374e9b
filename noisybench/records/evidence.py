"""Predictions and per-example records from which the scores of a run are computed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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
