"""Signals of an audit from given features or given predictions, without the training of networks."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import adaptive_avg_pool2d

from noisybench.audit.folds import draw_folds
from noisybench.audit.predictions import hard_problem, in_sample_problem
from noisybench.audit.reliability import measure_reliability
from noisybench.audit.signals import CHUNK_SIZE, AuditSignals, neighbor_disagreement
from noisybench.data.lazy import Images
from noisybench.errors import UserError

MAX_PROBE_ERROR = 0.04
"""Noise rate that a regression on features may find where all labels are correct."""

MAX_STEPS = 200
"""Largest number of optimization steps of the logistic regression."""


def probe_features(
    features: NDArray[np.float32], observed: NDArray[np.int64], num_classes: int, folds: int = 3, seed: int = 0
) -> AuditSignals:
    """Predict each fold with a logistic regression on the features of all others, and compare nearest neighbors.

    Args:
        features: (N, D) features of a model that was not trained on the labels.
        observed: (N,) labels to audit.
        num_classes: number of classes.
        folds: number of folds, from 2.
        seed: random seed of the folds.

    Raises:
        UserError: there are fewer examples than folds, or all other folds have one class only.

    Example:
        >>> import numpy as np
        >>> observed = np.arange(60) % 2
        >>> signals = probe_features(np.eye(2, dtype=np.float32)[observed], observed, 2)
        >>> bool((signals.probabilities.argmax(1) == observed).all()), float(signals.neighbors.max())
        (True, 0.0)
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    fold_of = draw_folds(len(observed), folds, seed)
    probabilities = np.zeros((len(observed), num_classes))
    for fold in range(folds):
        inside = fold_of == fold
        mean, deviation = features[~inside].mean(0), features[~inside].std(0)
        scaled = (features - mean) / np.where(deviation > 0, deviation, 1)
        if len(np.unique(observed[~inside])) < 2:
            raise UserError(
                "--folds: the examples outside of a fold have one class only; use fewer folds or more labels"
            )
        # The sum over D standardized features grows with D, and the penalty with it.
        regression = LogisticRegression(C=1 / features.shape[1], max_iter=MAX_STEPS)
        with warnings.catch_warnings():
            # Ranks and accuracies do not depend on the last digits of the weights.
            warnings.simplefilter("ignore", ConvergenceWarning)
            regression.fit(scaled[~inside], observed[~inside])
        probabilities[np.ix_(inside, regression.classes_)] = regression.predict_proba(scaled[inside])
    return AuditSignals(probabilities, None, neighbors_across_folds(features, observed, fold_of), fold_of)


def signals_of_predictions(
    probabilities: NDArray[np.float64],
    observed: NDArray[np.int64],
    features: NDArray[np.float32] | None = None,
    folds: int = 3,
    seed: int = 0,
    inputs: Images | None = None,
) -> AuditSignals:
    """Return the signals of given out-of-sample predictions, with nearest neighbors if there are features.

    Predictions of nearly all labels are compared with those of a regression on features, or on small images, that is not
    fitted to the example.

    Args:
        probabilities: (N, C) predictions of models that were not trained on the example.
        observed: (N,) labels to audit.
        features: (N, D) features of a model that was not trained on the labels.
        folds: number of folds of the neighbors, from 2.
        seed: random seed of the folds.
        inputs: (N, C, H, W) uint8 images, or other inputs, which are not compared.

    Example:
        >>> signals = signals_of_predictions(np.full((4, 2), 0.5), np.array([0, 1, 0, 1]))
        >>> signals.neighbors is None, signals.problem is None
        (True, True)
    """
    neighbors = None
    if features is not None:
        neighbors = neighbors_across_folds(features, observed, draw_folds(len(observed), folds, seed))
    problem, caution = hard_problem(probabilities), None
    suspicion = in_sample_problem(observed, probabilities)
    if problem is None and suspicion is not None:
        points = small_images(inputs) if features is None and inputs is not None else features
        interval = None if points is None else _held_out_rate(points, observed, probabilities.shape[1], folds, seed)
        if interval is None:
            caution = f"{suspicion}, unless nearly all labels are correct, which nothing here can confirm"
        elif interval[0] > float((probabilities.argmax(1) != observed).mean()) + MAX_PROBE_ERROR:
            problem = (
                f"{suspicion}. A regression that was not fitted to them finds {interval[0]:.0%} to {interval[1]:.0%} of "
                "incorrect labels"
            )
    return AuditSignals(probabilities, None, neighbors, None, problem, caution)


def _held_out_rate(
    points: NDArray[np.float32], observed: NDArray[np.int64], num_classes: int, folds: int, seed: int
) -> tuple[float, float] | None:
    """Return the interval of the noise rate by a regression on the points; None if it does not suffice for an estimate."""
    try:
        signals = probe_features(points, observed, num_classes, folds, seed)
    except UserError:  # too few examples or classes for folds
        return None
    reliability = measure_reliability(observed, signals.probabilities, signals.fold_of)
    return None if reliability.problem else reliability.rate_interval


def small_images(images: Images) -> NDArray[np.float32] | None:
    """Return (N, C * 64) means of the pixels of 8 x 8 parts of each image; None for texts and other inputs.

    Example:
        >>> small_images(np.full((2, 3, 16, 16), 255, np.uint8)).shape
        (2, 192)
    """
    if images.dtype != np.uint8:
        return None
    parts = [
        adaptive_avg_pool2d(torch.from_numpy(np.array(images[start : start + CHUNK_SIZE])).float(), 8).flatten(1)
        for start in range(0, len(images), CHUNK_SIZE)
    ]
    return np.asarray(torch.cat(parts).numpy() / 255)


def neighbors_across_folds(
    features: NDArray[np.float32], observed: NDArray[np.int64], fold_of: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the (N,) fractions of the nearest examples of all other folds with another label."""
    points, labels, fractions = torch.from_numpy(features), torch.from_numpy(observed), np.zeros(len(observed))
    for fold in np.unique(fold_of):
        inside = torch.from_numpy(fold_of == fold)
        disagreement = neighbor_disagreement(points[inside], labels[inside], points[~inside], labels[~inside])
        fractions[inside.numpy()] = disagreement.double().numpy()
    return fractions
