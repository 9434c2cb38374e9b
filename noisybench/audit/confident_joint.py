"""Confident joint: counts of observed classes against confidently predicted ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-6
"""Difference up to which a probability below its threshold counts as equal."""


def confident_joint(observed: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the calibrated confident joint of Northcutt, Jiang and Chuang (2021, equations 1 and 3).

    An example is counted for the most probable class among those whose probability reaches the class threshold, which is
    the mean predicted probability of the class over the examples that are observed in it.

    Args:
        observed: (N,) observed classes.
        probabilities: (N, C) out-of-sample predictions.

    Returns:
        (C, C) counts by observed class (row) and confidently predicted class (column). Each row sums to the number of
        examples observed in the class, so the matrix sums to N.

    Examples:
        >>> import numpy as np
        >>> probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.9, 0.1]])
        >>> confident_joint(np.array([0, 0, 1, 1]), probabilities)
        array([[2., 0.],
               [1., 1.]])
    """
    num_classes = probabilities.shape[1]
    class_sizes = np.bincount(observed, minlength=num_classes)
    of_observed = probabilities[np.arange(len(observed)), observed]
    totals = np.bincount(observed, weights=of_observed, minlength=num_classes)
    return calibrated_joint(
        confident_counts(observed, probabilities, class_thresholds(totals, class_sizes)), class_sizes
    )


def class_thresholds(totals: NDArray[Any], class_sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the (C,) probability from which a class is predicted confidently.

    Args:
        totals: (C,) sum of the predicted probabilities of each class over the examples observed in it.
        class_sizes: (C,) number of examples observed in each class.

    Example:
        >>> import numpy as np
        >>> class_thresholds(np.array([1.5, 0.0]), np.array([2, 0]))
        array([0.75,  inf])
    """
    # The threshold of a class without observed examples is infinite: no prediction reaches it.
    return np.asarray(np.divide(totals, class_sizes, out=np.full(len(totals), np.inf), where=class_sizes > 0))


def confident_counts(
    observed: NDArray[np.int64], probabilities: NDArray[np.float64], thresholds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the (C, C) counts of examples by observed class (row) and confidently predicted class (column).

    Args:
        observed: (N,) observed classes.
        probabilities: (N, C) out-of-sample predictions.
        thresholds: (C,) probability from which a class is predicted confidently.

    Example:
        >>> import numpy as np
        >>> confident_counts(np.array([0, 0]), np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0.8, 0.8]))
        array([[1., 0.],
               [0., 0.]])
    """
    # The tolerance keeps a probability that equals its threshold up to the rounding of the mean.
    # Classes below their threshold are marked with -1, which no probability reaches.
    confident = np.where(probabilities >= thresholds - TOLERANCE, probabilities, -1.0)
    counted = confident.max(1, initial=-1.0) >= 0
    counts = np.zeros((len(thresholds), len(thresholds)))
    # Indexed `+=` would count a pair of classes once, however many examples have it.
    np.add.at(counts, (observed[counted], confident[counted].argmax(1)), 1)
    return counts


def calibrated_joint(counts: NDArray[np.float64], class_sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (C, C) confident counts with each row scaled to the number of examples observed in its class.

    Example:
        >>> import numpy as np
        >>> calibrated_joint(np.array([[3.0, 1.0], [0.0, 0.0]]), np.array([8, 2]))
        array([[6., 2.],
               [0., 2.]])
    """
    counts = counts.copy()
    # Without a confident example the labels of a class are assumed to be correct.
    empty = counts.sum(1) == 0
    counts[empty, empty] = 1.0
    # Calibration (equation 3): each row is scaled to the number of examples observed in its class.
    return np.asarray(counts / counts.sum(1, keepdims=True) * class_sizes[:, None])


def noise_rate_and_transition(counts: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Estimate the noise rate and the transition matrix from the confident joint.

    Args:
        counts: (C, C) by observed class (row) and true class (column).

    Returns:
        Fraction of incorrect labels, and (C, C) probability of the observed class (column) given the true class (row).

    Examples:
        >>> import numpy as np
        >>> rate, transition = noise_rate_and_transition(np.array([[2.0, 0.0], [1.0, 1.0]]))
        >>> rate
        0.25
        >>> transition.round(2)
        array([[0.67, 0.33],
               [0.  , 1.  ]])
    """
    class_sizes = counts.sum(0)
    # A class without estimated examples keeps its labels; a row of zeros would not be a distribution.
    identity = np.eye(len(counts))
    # `np.where` computes both branches, so the divisor is kept off zero.
    transition = np.where(class_sizes[:, None] > 0, counts.T / np.maximum(class_sizes, 1e-12)[:, None], identity)
    return float(1 - np.trace(counts) / counts.sum()), transition
