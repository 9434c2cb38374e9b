"""Reliability of an audit: accuracy of its predictions, an interval of the noise rate, and a check by planted labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisybench.audit.confident_joint import confident_joint, noise_rate_and_transition
from noisybench.utils.seeds import Stream

MIN_GAIN = 0.05
"""Accuracy by which predictions must exceed chance, lower end of the interval included, for an estimate."""

NUM_RESAMPLES = 100
"""Number of bootstrap samples."""

LEVELS = (0.025, 0.975)
"""Quantiles of 95 % intervals."""

TAILS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Fractions of the most contradicted labels at which observed and planted labels are compared."""

MAX_GAP = 0.1
"""Largest difference of the two rates, by the confident joint and by planted labels, for an estimate."""


@dataclass(frozen=True)
class Reliability:
    """Measurements that say how far an audit of N examples with C classes can be trusted.

    Attributes:
        accuracy: fraction of examples whose observed label is predicted by a model that was not trained on the example.
        accuracy_interval: 95 % interval of the accuracy, over examples and folds.
        class_accuracy: (C,) accuracy by observed class; NaN for a class without examples.
        chance: accuracy of always predicting the most frequent observed class.
        joint_rate: noise rate by the confident joint.
        planted_rate: noise rate if incorrect labels are contradicted as strongly as labels that are planted at random.
        rate_interval: from the lower end of the 95 % interval of the smaller rate to the upper end of the larger one, over
            examples and folds.
        problem: reason for which there is no estimate; None if there is one.
    """

    accuracy: float
    accuracy_interval: tuple[float, float]
    class_accuracy: NDArray[np.float64]
    chance: float
    joint_rate: float
    planted_rate: float
    rate_interval: tuple[float, float]
    problem: str | None

    @property
    def noise_rate(self) -> float | None:
        """Estimated noise rate; None if the predictions do not suffice for an estimate."""
        return None if self.problem else self.joint_rate


def measure_reliability(
    observed: NDArray[np.int64], probabilities: NDArray[np.float64], fold_of: NDArray[np.int64] | None = None
) -> Reliability:
    """Measure how far estimates from out-of-sample predictions can be trusted.

    Args:
        observed: (N,) observed classes.
        probabilities: (N, C) predictions of models that were not trained on the example.
        fold_of: (N,) fold of each example; None if the folds are unknown.

    Example:
        >>> import numpy as np
        >>> observed = np.arange(300) % 3
        >>> measure_reliability(observed, np.full((300, 3), 1 / 3)).noise_rate is None
        True
        >>> measure_reliability(observed, 0.7 * np.eye(3)[observed] + 0.1).noise_rate
        0.0
    """
    size, num_classes = probabilities.shape
    correct = (probabilities.argmax(1) == observed).astype(np.float64)
    class_sizes = np.bincount(observed, minlength=num_classes)
    above, planted = _compare_with_planted(observed, probabilities)
    accuracies, smaller, larger = [], [], []
    for rows in _resamples(size, fold_of):
        accuracies.append(correct[rows].mean())
        joint_rate, _ = noise_rate_and_transition(confident_joint(observed[rows], probabilities[rows]))
        rates = (joint_rate, _planted_rate(above[rows], planted[rows], num_classes))
        smaller.append(min(rates))
        larger.append(max(rates))
    with np.errstate(invalid="ignore"):  # classes without examples
        class_accuracy = np.bincount(observed, weights=correct, minlength=num_classes) / class_sizes
    accuracy, chance = float(correct.mean()), float(class_sizes.max() / size)
    accuracy_interval = _interval(accuracies)
    joint_rate, _ = noise_rate_and_transition(confident_joint(observed, probabilities))
    planted_rate = _planted_rate(above, planted, num_classes)
    rate_interval = (_interval(smaller)[0], _interval(larger)[1])
    problem = None
    if accuracy_interval[0] < chance + MIN_GAIN:
        problem = (
            f"the predictions are correct for {accuracy:.1%} of the labels ({accuracy_interval[0]:.1%} to "
            f"{accuracy_interval[1]:.1%}), and chance is {chance:.1%}: the models have not learned the classes"
        )
    elif abs(planted_rate - joint_rate) > MAX_GAP:
        problem = (
            f"confident contradictions give {joint_rate:.0%}, and the comparison with planted incorrect labels "
            f"{planted_rate:.0%}: the predictions are too weak to separate errors of the labels from their own errors"
        )
    return Reliability(
        accuracy, accuracy_interval, class_accuracy, chance, joint_rate, planted_rate, rate_interval, problem
    )


def _resamples(size: int, fold_of: NDArray[np.int64] | None) -> Iterator[NDArray[np.int64]]:
    """Yield positions of bootstrap samples: folds with replacement, and examples of each with replacement."""
    stream = Stream("audit", "bootstrap", size)
    groups = [np.arange(size)]
    if fold_of is not None:
        groups = [np.flatnonzero(fold_of == fold) for fold in np.unique(fold_of)]
    for _ in range(NUM_RESAMPLES):
        drawn = (stream.uniform(len(groups)) * len(groups)).astype(np.int64)
        yield np.concatenate(
            [groups[fold][(stream.uniform(len(groups[fold])) * len(groups[fold])).astype(np.int64)] for fold in drawn]
        )


def _interval(values: list[float]) -> tuple[float, float]:
    low, high = np.quantile(values, LEVELS)
    return float(low), float(high)


def contradiction(observed: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (N,) largest probability of the other classes minus that of the observed class.

    Example:
        >>> import numpy as np
        >>> contradiction(np.array([0, 1]), np.array([[0.75, 0.25], [0.75, 0.25]]))
        array([-0.5,  0.5])
    """
    rows, others = np.arange(len(observed)), probabilities.copy()
    # Below every probability, so that the maximum is over the other classes.
    others[rows, observed] = -1.0
    return np.asarray(others.max(1) - probabilities[rows, observed])


def _compare_with_planted(
    observed: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return which labels are contradicted beyond each threshold, and the fraction of planted labels that would be.

    The label of an example has no part in the prediction of the example, so that every other class can be planted without
    training again.

    Returns:
        (N, T) zeros and ones for the observed label, and (N, T) fractions of the C - 1 other classes.
    """
    size, num_classes = probabilities.shape
    own = contradiction(observed, probabilities)
    # At zero as well: confident predictions of correct labels tie, and a quantile among ties would include them all.
    thresholds = np.array([*np.quantile(own, [1 - tail for tail in TAILS]), 0.0])
    planted = np.zeros((size, len(thresholds)))
    for shift in range(1, num_classes):
        scores = contradiction((observed + shift) % num_classes, probabilities)
        planted += scores[:, None] >= thresholds
    return (own[:, None] >= thresholds).astype(np.float64), planted / max(num_classes - 1, 1)


def _planted_rate(above: NDArray[np.float64], planted: NDArray[np.float64], num_classes: int) -> float:
    """Return the noise rate at which the most contradicted labels would all be incorrect.

    Incorrect labels are assumed to be contradicted as strongly as planted ones; correct labels can only add to the tail, so
    that the smallest ratio of the tails bounds the noise rate.
    """
    shares = planted.mean(0)
    ratio = float(np.min(np.divide(above.mean(0), shares, out=np.ones_like(shares), where=shares > 0)))
    # Of the labels planted on mislabeled examples, one class in C - 1 is the correct one.
    return min(1.0, ratio / (1 + ratio / max(num_classes - 1, 1)))
