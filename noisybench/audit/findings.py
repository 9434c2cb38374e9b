"""Analysis of audit signals: noise rate, transition matrix, and a ranking of suspicious labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisybench.audit.signals import AuditSignals

TOP_FRACTIONS = (0.01, 0.05)
"""Fractions of the data for which the precision of the highest-ranked labels is reported."""


@dataclass(frozen=True)
class AuditResult:
    """Estimates for N examples with C classes.

    Attributes:
        noise_rate: estimated fraction of incorrect labels.
        transition_matrix: (C, C) estimated probability of the observed class (column) given the true class (row).
        error_score: (N,) ranks in [0, 1] by detector, higher where the label is more likely incorrect; `combined` is their
            mean.
        ranking: (N,) positions from the most to the least suspicious label, by `combined`.
        suggested: (N,) class predicted by a network that was not trained on the example.
        confidence: (N,) predicted probability of the suggested class.
        agreement: Spearman's rank correlation of two detectors, and the overlap of their `num_suspects` highest scores as a
            fraction.
    """

    noise_rate: float
    transition_matrix: NDArray[np.float64]
    error_score: dict[str, NDArray[np.float64]]
    ranking: NDArray[np.int64]
    suggested: NDArray[np.int64]
    confidence: NDArray[np.float64]
    agreement: dict[tuple[str, str], tuple[float, float]]

    @property
    def num_suspects(self) -> int:
        """Number of labels to review: the estimated noise rate times N."""
        return round(self.noise_rate * len(self.ranking))

    @property
    def suspects(self) -> NDArray[np.int64]:
        """(num_suspects,) positions of the labels to review, the most suspicious first."""
        return self.ranking[: self.num_suspects]


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
    # The threshold of a class without observed examples is infinite: no prediction reaches it.
    thresholds = np.divide(totals, class_sizes, out=np.full(num_classes, np.inf), where=class_sizes > 0)
    # The tolerance keeps a probability that equals its threshold up to the rounding of the mean.
    # Classes below their threshold are marked with -1, which no probability reaches.
    confident = np.where(probabilities >= thresholds - 1e-6, probabilities, -1.0)
    counted = confident.max(1) >= 0
    counts = np.zeros((num_classes, num_classes))
    # Indexed `+=` would count a pair of classes once, however many examples have it.
    np.add.at(counts, (observed[counted], confident[counted].argmax(1)), 1)
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


def unit_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ranks of values scaled to [0, 1]; ties share the mean of their ranks.

    Examples:
        >>> import numpy as np
        >>> unit_ranks(np.array([3.0, 1.0, 2.0]))
        array([1. , 0. , 0.5])
    """
    from scipy.stats import rankdata

    return np.asarray((rankdata(values) - 1) / max(len(values) - 1, 1))


def analyze(observed: NDArray[np.int64], signals: AuditSignals) -> AuditResult:
    """Estimate the noise of observed labels and rank them by how likely they are incorrect.

    Three detectors score each label: `confident`, the normalized margin of a network that was not trained on the example
    (Northcutt, Jiang and Chuang 2021); `training`, the mean margin while training on it (Pleiss et al. 2020); `neighbors`,
    the fraction of nearest examples with another label, where the network names its features.

    Args:
        observed: (N,) observed labels.
        signals: signals of the same examples.

    Examples:
        >>> import numpy as np
        >>> from noisybench.audit.signals import AuditSignals
        >>> probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.9, 0.1]])
        >>> result = analyze(np.array([0, 0, 1, 1]), AuditSignals(probabilities, np.array([2.0, 1.0, 2.0, -1.0]), None))
        >>> result.noise_rate, result.suspects.tolist(), result.suggested.tolist()
        (0.25, [3], [0, 0, 1, 0])
    """
    rows, predicted = np.arange(len(observed)), signals.probabilities
    of_other_classes = predicted.copy()
    # Below every probability, so that the maximum is over the other classes.
    of_other_classes[rows, observed] = -1.0
    scores = {
        "confident": of_other_classes.max(1) - predicted[rows, observed],
        "training": -signals.margins,
    }
    if signals.neighbors is not None:
        scores["neighbors"] = signals.neighbors
    # Margins of probabilities, margins of logits and fractions have different scales; only their ranks can be averaged.
    error_score = {name: unit_ranks(values) for name, values in scores.items()}
    error_score["combined"] = np.mean(list(error_score.values()), axis=0)
    noise_rate, transition = noise_rate_and_transition(confident_joint(observed, predicted))
    suggested = predicted.argmax(1)
    return AuditResult(
        noise_rate,
        transition,
        error_score,
        # Ties are broken by the margin of the networks that were not trained on the example.
        np.lexsort((-scores["confident"], -error_score["combined"])),
        suggested,
        predicted[rows, suggested],
        _agreement(error_score, max(1, round(noise_rate * len(observed)))),
    )


def _agreement(error_score: dict[str, NDArray[np.float64]], count: int) -> dict[tuple[str, str], tuple[float, float]]:
    """Compare all pairs of detectors by rank correlation and by the overlap of their `count` highest scores."""
    names = [name for name in error_score if name != "combined"]
    # Stable, because `neighbors` has few distinct values, and the order of its many ties decides the overlap.
    top = {name: set(np.argsort(-error_score[name], kind="stable")[:count].tolist()) for name in names}
    return {
        (a, b): (_correlation(error_score[a], error_score[b]), len(top[a] & top[b]) / count)
        for position, a in enumerate(names)
        for b in names[position + 1 :]
    }


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the correlation of two rankings; 0 if one of them is constant."""
    if not (np.ptp(first) and np.ptp(second)):
        return 0.0
    # The inputs are ranks, so Pearson's correlation of them is Spearman's, ties included.
    return float(np.corrcoef(first, second)[0, 1])


def precision_at(error_score: NDArray[np.float64], incorrect: NDArray[np.bool_], fraction: float) -> float:
    """Return the fraction of incorrect labels among those with the highest scores.

    Args:
        error_score: (N,) higher where the label is more likely incorrect.
        incorrect: (N,) True where the label is incorrect.
        fraction: fraction of the N labels to look at, at least one label.

    Examples:
        >>> import numpy as np
        >>> precision_at(np.array([0.9, 0.1, 0.8, 0.2]), np.array([True, False, False, True]), 0.5)
        0.5
    """
    highest = np.argsort(-error_score, kind="stable")[: max(1, round(fraction * len(incorrect)))]
    return float(incorrect[highest].mean())
