"""Estimate of the label noise by maximum likelihood: a calibrated prediction of the true class, and a transition matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

START_RATE = 0.1
"""Noise rate of the transition matrix with which the fit starts."""

START_SCALE = 8.0
"""Factor of the scores with which the fit starts: contradictions are errors of the labels, as far as no score denies it."""

PSEUDO_COUNT = 0.1
"""Number of examples that each row of the transition matrix is smoothed with."""

MAX_ROUNDS = 40
"""Largest number of rounds of a fit."""

CALIBRATION_STEPS = 10
"""Number of optimization steps of the calibration in each round."""

TOLERANCE = 5e-4
"""Change of the noise rate in one round below which a fit ends."""

SMALLEST = 1e-12
"""Probability by which zeros are replaced."""


@dataclass(frozen=True)
class ForwardFit:
    """Fit of a model of observed labels: the probability of a label is that of the true classes times the transition matrix.

    Attributes:
        posterior: (N, C) probability of each true class, given the prediction and the observed label.
        transition: (C, C) probability of the observed class (column) given the true class (row).
        calibration: (1 + C,) factor of the logarithmic predictions, and a bias of each class.
        noise_rate: fraction of labels that differ from the true class, as the posterior expects it.
    """

    posterior: NDArray[np.float64]
    transition: NDArray[np.float64]
    calibration: NDArray[np.float64]
    noise_rate: float


def fit_forward(
    observed: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    start: ForwardFit | None = None,
    rounds: int = MAX_ROUNDS,
) -> ForwardFit:
    """Fit transition matrix and calibration of out-of-sample predictions to the observed labels.

    The probability of the true class is a softmax of the logarithmic predictions times a factor, plus a bias of each class;
    that of the observed label follows by the transition matrix ("forward", Patrini et al. 2017). Expectation and
    maximization alternate. Errors of the predictions lower the factor, and incorrect labels raise the entries off the
    diagonal: only they contradict predictions whose scores leave no doubt.

    Args:
        observed: (N,) observed classes.
        probabilities: (N, C) predictions of models that were not trained on the example.
        start: fit with which to start, such as that of all examples for a part of them.
        rounds: largest number of rounds.

    Example:
        >>> import numpy as np
        >>> clean = np.arange(600) % 3
        >>> observed = np.where(np.arange(600) < 120, (clean + 1) % 3, clean)
        >>> predicted = np.random.default_rng(0).normal(size=(600, 3)) + 4 * np.eye(3)[clean]
        >>> fit = fit_forward(observed, np.exp(predicted) / np.exp(predicted).sum(1, keepdims=True))
        >>> round(fit.noise_rate, 1), fit.transition.shape
        (0.2, (3, 3))
    """
    scores = np.log(np.maximum(probabilities, SMALLEST))
    num_classes = scores.shape[1]
    if start is None:
        calibration = np.concatenate([[START_SCALE], np.zeros(num_classes)])
        transition = np.full((num_classes, num_classes), START_RATE / max(num_classes - 1, 1))
        np.fill_diagonal(transition, 1 - START_RATE)
    else:
        calibration, transition = start.calibration, start.transition
    rows, rate = np.arange(len(observed)), np.inf
    for _ in range(rounds):
        posterior = _posterior(observed, scores, calibration, transition)
        counts = np.zeros((num_classes, num_classes))
        np.add.at(counts.T, observed, posterior)
        # Smoothed toward the uniform distribution, so that no transition of a rare class becomes impossible.
        counts += PSEUDO_COUNT / num_classes
        transition = counts / counts.sum(1, keepdims=True)
        calibration = _calibrate(scores, posterior, calibration)
        previous, rate = rate, float(1 - posterior[rows, observed].mean())
        if abs(rate - previous) < TOLERANCE:
            break
    posterior = _posterior(observed, scores, calibration, transition)
    return ForwardFit(posterior, transition, calibration, float(1 - posterior[rows, observed].mean()))


def posterior_transition(observed: NDArray[np.int64], posterior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (C, C) probability of the observed class (column) given the true class (row), as the posterior expects it.

    Example:
        >>> import numpy as np
        >>> posterior_transition(np.array([0, 1, 1, 1]), np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
        array([[0.5, 0.5],
               [0. , 1. ]])
    """
    counts = np.zeros((posterior.shape[1], posterior.shape[1]))
    np.add.at(counts.T, observed, posterior)
    totals = counts.sum(1, keepdims=True)
    # A class without examples keeps its labels; a row of zeros would not be a distribution.
    return np.asarray(np.where(totals > 0, counts / np.maximum(totals, np.finfo(np.float64).tiny), np.eye(len(counts))))


def _posterior(
    observed: NDArray[np.int64],
    scores: NDArray[np.float64],
    calibration: NDArray[np.float64],
    transition: NDArray[np.float64],
) -> NDArray[np.float64]:
    from scipy.special import softmax

    joint = softmax(calibration[0] * scores + calibration[1:], axis=1) * transition[:, observed].T
    return np.asarray(joint / np.maximum(joint.sum(1, keepdims=True), np.finfo(np.float64).tiny))


def _calibrate(
    scores: NDArray[np.float64], posterior: NDArray[np.float64], start: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the calibration with the largest likelihood of the posterior."""
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    size = len(scores)

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        log_probabilities = log_softmax(parameters[0] * scores + parameters[1:], axis=1)
        gradient = np.exp(log_probabilities) - posterior
        slope = np.concatenate([[(gradient * scores).sum()], gradient.sum(0)])
        return float(-(posterior * log_probabilities).sum() / size), slope / size

    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": CALIBRATION_STEPS})
    return np.asarray(found.x)
