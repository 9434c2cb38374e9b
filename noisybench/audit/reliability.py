"""Reliability of an audit: accuracy of its predictions, an interval of the noise rate, and a check by planted labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from noisybench.audit.confident_joint import confident_joint, noise_rate_and_transition
from noisybench.audit.forward import ForwardFit, fit_forward
from noisybench.utils.seeds import Stream

MIN_GAIN = 0.05
"""Accuracy by which predictions must exceed chance, lower end of the interval included, for an estimate."""

NUM_RESAMPLES = 100
"""Number of bootstrap samples of the accuracy."""

NUM_REFITS = 20
"""Number of bootstrap samples of the noise rate."""

LEVELS = (0.025, 0.975)
"""Quantiles of 95 % intervals."""

MAX_MODEL_ERROR = 0.05
"""Largest half of the 95 % interval of the noise rate beyond that of counting examples, for an estimate."""

NORMAL_QUANTILE = 1.96
"""Half of a 95 % interval in standard errors."""

MIN_PER_CLASS = 40
"""Smallest number of examples per class for an estimate: of fewer, a transition matrix explains any errors of predictions."""

PLANTED_SHARE = 0.1
"""Fraction of the labels that are changed to calibrate the estimate."""

RESPONSE_LIMITS = (0.6, 1.6)
"""Smallest and largest part of the planted labels by which the estimate may rise, for an estimate."""

MIN_AMBIGUOUS_RESPONSE = 0.25
"""Smallest part, of labels planted where predictions hesitate, by which the estimate may rise, for an estimate."""

REFIT_ROUNDS = 5
"""Number of rounds of a fit that starts with that of all examples."""

MAX_RESAMPLED = 4000
"""Largest number of examples of a bootstrap sample; intervals are scaled to the number of all examples."""


@dataclass(frozen=True)
class Reliability:
    """Measurements that say how far an audit of N examples with C classes can be trusted.

    Attributes:
        accuracy: fraction of examples whose observed label is predicted by a model that was not trained on the example.
        accuracy_interval: 95 % interval of the accuracy, over examples and folds.
        class_accuracy: (C,) accuracy by observed class; NaN for a class without examples.
        chance: accuracy of always predicting the most frequent observed class.
        joint_rate: noise rate by the confident joint, which counts errors of the predictions as noise.
        forward_rate: noise rate by the fit of `fit_forward`.
        rate_interval: 95 % interval of the forward rate, over examples and folds.
        response: rise of the forward rate after labels were planted with the confusions of the classes, per planted label.
        ambiguous_response: the same for labels that were planted where the predictions of the example hesitate. Where it is
            far below 1, errors of people on ambiguous examples are not counted.
        ceiling: accuracy on the observed labels that perfect predictions would reach, if the forward rate is correct.
        problem: reason for which there is no estimate; None if there is one.
        caution: suspicion under which the estimate would mean nothing; None without one.
    """

    accuracy: float
    accuracy_interval: tuple[float, float]
    class_accuracy: NDArray[np.float64]
    chance: float
    joint_rate: float
    forward_rate: float
    rate_interval: tuple[float, float]
    response: float
    ambiguous_response: float
    ceiling: float
    problem: str | None
    caution: str | None = None

    @property
    def noise_rate(self) -> float | None:
        """Estimated noise rate; None if the predictions do not suffice for an estimate."""
        return None if self.problem else self.forward_rate


def measure_reliability(
    observed: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    fold_of: NDArray[np.int64] | None = None,
    problem: str | None = None,
    fit: ForwardFit | None = None,
) -> Reliability:
    """Measure how far estimates from out-of-sample predictions can be trusted.

    Args:
        observed: (N,) observed classes.
        probabilities: (N, C) predictions of models that were not trained on the example.
        fold_of: (N,) fold of each example; None if the folds are unknown.
        problem: reason for which the predictions are not out-of-sample; there is no estimate then.
        fit: result of `fit_forward` for the same labels and predictions; computed by default.

    Example:
        >>> import numpy as np
        >>> observed = np.arange(300) % 3
        >>> measure_reliability(observed, np.full((300, 3), 1 / 3)).noise_rate is None
        True
        >>> round(measure_reliability(observed, 0.7 * np.eye(3)[observed] + 0.1).noise_rate, 2)
        0.0
    """
    size, num_classes = probabilities.shape
    fit = fit or fit_forward(observed, probabilities)
    correct = (probabilities.argmax(1) == observed).astype(np.float64)
    class_sizes = np.bincount(observed, minlength=num_classes)
    accuracies: list[float] = []
    rates: list[float] = []
    counts: list[float] = []
    expected_errors = 1 - fit.posterior[np.arange(size), observed]
    for rows in _resamples(size, fold_of):
        accuracies.append(float(correct[rows].mean()))
        if len(rates) < NUM_REFITS:
            part = rows[:: max(1, -(-len(rows) // MAX_RESAMPLED))]
            refit = fit_forward(observed[part], probabilities[part], fit, REFIT_ROUNDS)
            scale = (len(part) / size) ** 0.5
            rates.append(fit.noise_rate + (refit.noise_rate - fit.noise_rate) * scale)
            counts.append(float(expected_errors[part].mean()) * scale)
    with np.errstate(invalid="ignore"):  # classes without examples
        class_accuracy = np.bincount(observed, weights=correct, minlength=num_classes) / class_sizes
    joint_rate, _ = noise_rate_and_transition(confident_joint(observed, probabilities))
    confusions = np.zeros((num_classes, num_classes))
    np.add.at(confusions, probabilities.argmax(1), probabilities)
    # Refits of few rounds move less than complete ones, so the interval is centered on the estimate.
    deviation = NORMAL_QUANTILE * float(np.std(rates))
    measured = Reliability(
        float(correct.mean()),
        _interval(accuracies),
        class_accuracy,
        float(class_sizes.max() / size),
        joint_rate,
        fit.noise_rate,
        (max(0.0, fit.noise_rate - deviation), min(1.0, fit.noise_rate + deviation)),
        _response(observed, probabilities, confusions[observed], fit),
        _response(observed, probabilities, probabilities, fit),
        1 - fit.noise_rate,
        problem,
    )
    return replace(measured, problem=problem or _problem(measured, size, NORMAL_QUANTILE * float(np.std(counts))))


def subtract_found(after: Reliability, before: Reliability, found: float) -> Reliability:
    """Return the reliability of an audit of labels of which people have corrected some.

    Args:
        after: measurements of the labels after people have verified some; their accuracies are returned.
        before: measurements of the labels as they were given, by the same predictions; their estimate is returned.
        found: fraction of the labels that people have corrected, by which the estimate is lower.
    """
    rate, low, high = (max(0.0, value - found) for value in (before.forward_rate, *before.rate_interval))
    return replace(
        after,
        joint_rate=max(0.0, before.joint_rate - found),
        forward_rate=rate,
        rate_interval=(low, high),
        response=before.response,
        ambiguous_response=before.ambiguous_response,
        ceiling=1 - rate,
        problem=before.problem,
    )


def _problem(measured: Reliability, size: int, counting: float) -> str | None:
    """Return the reason for which there is no estimate; None if there is one.

    Args:
        measured: the measurements.
        size: number of examples.
        counting: half of the interval of the noise rate if each example were known to be correct or not.
    """
    low, high = measured.accuracy_interval
    if low < measured.chance + MIN_GAIN:
        return (
            f"the predictions are correct for {measured.accuracy:.1%} of the labels ({low:.1%} to {high:.1%}), and chance is "
            f"{measured.chance:.1%}: the models have not learned the classes"
        )
    if size < MIN_PER_CLASS * len(measured.class_accuracy):
        return (
            f"there are {size} labels of {len(measured.class_accuracy)} classes, and an estimate needs {MIN_PER_CLASS} for each "
            "class"
        )
    lowest, highest = measured.rate_interval
    if (highest - lowest) / 2 > counting + MAX_MODEL_ERROR:
        return (
            f"the labels and predictions are compatible with {lowest:.0%} to {highest:.0%} of incorrect labels: there are too "
            "few examples, or the predictions are too weak to separate errors of the labels from their own errors"
        )
    responses = (measured.response, measured.ambiguous_response)
    if not (RESPONSE_LIMITS[0] <= responses[0] <= RESPONSE_LIMITS[1] and responses[1] >= MIN_AMBIGUOUS_RESPONSE):
        return (
            f"of labels that were changed on purpose, the estimate counts {max(responses[0], 0):.0%}, and "
            f"{max(responses[1], 0):.0%} where the predictions hesitate: the predictions are too weak "
            "to separate errors of the labels from their own errors"
        )
    return None


def _response(
    observed: NDArray[np.int64], probabilities: NDArray[np.float64], weights: NDArray[np.float64], fit: ForwardFit
) -> float:
    """Return the rise of the estimate per label that is planted, without training again.

    The label of an example has no part in its prediction, so that another class can be planted in its place.

    Args:
        observed: (N,) observed classes.
        probabilities: (N, C) predictions.
        weights: (N, C) weights of the classes to plant; that of the observed class does not count.
        fit: fit of the observed labels.
    """
    size, num_classes = probabilities.shape
    rows, stream = np.arange(size), Stream("audit", "planted", size)
    others = np.maximum(weights, np.finfo(np.float64).tiny)
    others[rows, observed] = 0
    cumulative = (others / others.sum(1, keepdims=True)).cumsum(1)
    classes = (cumulative < stream.uniform(size)[:, None]).sum(1).clip(0, num_classes - 1)
    planted = stream.permutation(size)[: max(1, round(PLANTED_SHARE * size))]
    labels = observed.copy()
    labels[planted] = classes[planted]
    # A planted label is an error where the given one was correct, and may be correct where it was not.
    expected = (fit.posterior[planted, observed[planted]] - fit.posterior[planted, labels[planted]]).sum() / size
    if expected <= 0:
        return 0.0
    return float((fit_forward(labels, probabilities, fit).noise_rate - fit.noise_rate) / expected)


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
