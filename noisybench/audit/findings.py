"""Analysis of audit signals: noise rate, transition matrix, and a ranking of suspicious labels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from noisybench.audit.forward import SMALLEST, ForwardFit, fit_forward, posterior_transition
from noisybench.audit.reliability import Reliability, contradiction, measure_reliability, subtract_found
from noisybench.audit.signals import AuditSignals

TOP_FRACTIONS = (0.01, 0.05)
"""Fractions of the data for which the precision of the highest-ranked labels is reported."""

REVIEW_FRACTION = 0.05
"""Fraction of the labels that are listed for review if there is no estimate of the noise rate."""


@dataclass(frozen=True)
class AuditResult:
    """Estimates for N examples with C classes.

    Attributes:
        reliability: accuracy of the predictions, and interval or absence of the estimate.
        transition_matrix: (C, C) estimated probability of the observed class (column) given the true class (row), before
            labels were verified; None without an estimate.
        error_score: (N,) ranks in [0, 1] by detector, higher where the label is more likely incorrect; `combined` is
            `posterior` for given features or predictions, and the mean of all others for trained networks.
        ranking: (N,) positions from the most to the least suspicious label, by `combined`.
        suggested: (N,) class predicted by a network that was not trained on the example.
        confidence: (N,) predicted probability of the suggested class.
        label_quality: (N,) predicted probability of the observed class.
        agreement: Spearman's rank correlation of two detectors, and the overlap of their `num_suspects` highest scores as a
            fraction.
        num_verified: number of labels that people have verified, which are last in the ranking.
    """

    reliability: Reliability
    transition_matrix: NDArray[np.float64] | None
    error_score: dict[str, NDArray[np.float64]]
    ranking: NDArray[np.int64]
    suggested: NDArray[np.int64]
    confidence: NDArray[np.float64]
    label_quality: NDArray[np.float64]
    agreement: dict[tuple[str, str], tuple[float, float]]
    num_verified: int = 0

    @property
    def noise_rate(self) -> float | None:
        """Estimated fraction of incorrect labels, of which verified ones are none; None if there is no estimate."""
        return self.reliability.noise_rate

    @property
    def num_suspects(self) -> int:
        """Number of labels to review: the estimated noise rate times N, or `REVIEW_FRACTION` of N without an estimate."""
        count = _num_suspects(self.noise_rate, len(self.ranking))
        return min(count, len(self.ranking) - self.num_verified)

    @property
    def suspects(self) -> NDArray[np.int64]:
        """(num_suspects,) positions of the labels to review, the most suspicious first."""
        return self.ranking[: self.num_suspects]


def unit_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ranks of values scaled to [0, 1]; ties share the mean of their ranks.

    Examples:
        >>> import numpy as np
        >>> unit_ranks(np.array([3.0, 1.0, 2.0]))
        array([1. , 0. , 0.5])
    """
    from scipy.stats import rankdata

    return np.asarray((rankdata(values) - 1) / max(len(values) - 1, 1))


def analyze(
    observed: NDArray[np.int64],
    signals: AuditSignals,
    verified: NDArray[np.bool_] | None = None,
    given: NDArray[np.int64] | None = None,
) -> AuditResult:
    """Estimate the noise of observed labels and rank them by how likely they are incorrect.

    Four detectors score each label: `posterior`, the probability that the label is incorrect by the fit of predictions and
    transition matrix (`fit_forward`), with half the weight of the prediction itself; `confident`, the normalized margin of a
    network that was not trained on the example (Northcutt, Jiang and Chuang 2021); `training`, the mean margin while
    training on it (Pleiss et al. 2020); `neighbors`, the fraction of nearest examples with another label, in features.

    Args:
    observed: (N,) observed labels.
    signals: signals of the same examples.
    verified: (N,) True where people have verified the label, which is then no suspect; None if they have verified none.
    given: (N,) labels before they were verified, from which rate and transition matrix are estimated; None if no label differs.

    Examples:
    >>> import numpy as np
    >>> from noisybench.audit.signals import AuditSignals
    >>> true_class = np.arange(100) % 2
    >>> observed = np.where(np.arange(100) < 10, 1 - true_class, true_class)
    >>> result = analyze(observed, AuditSignals(0.8 * np.eye(2)[true_class] + 0.1, None, None))
    >>> round(result.noise_rate, 3), sorted(result.suspects.tolist())
    (0.1, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    """
    rows, predicted = np.arange(len(observed)), signals.probabilities
    scores = {"confident": contradiction(observed, predicted)}
    fit = fit_forward(observed, predicted)
    scores["posterior"] = posterior_score(observed, predicted, fit)
    if signals.margins is not None:
        scores["training"] = -signals.margins
    if signals.neighbors is not None:
        scores["neighbors"] = signals.neighbors
    # Margins of probabilities, margins of logits and fractions have different scales; only their ranks can be averaged.
    error_score = {name: unit_ranks(values) for name, values in scores.items()}
    # Measured on features, no mean is better than `posterior`; networks that were trained on the label know more.
    averaged = ["posterior"] if signals.margins is None else [name for name in error_score if name != "posterior"]
    error_score["combined"] = np.mean([error_score[name] for name in averaged], axis=0)
    reliability = measure_reliability(observed, predicted, signals.fold_of, signals.problem, fit)
    if given is not None and (given != observed).any():
        # People verify what contradicts the predictions. The labels that remain then hardly contradict them, so that a fit to
        # these would find no errors; the errors that were found are subtracted instead.
        fit = fit_forward(given, predicted)
        before = measure_reliability(given, predicted, signals.fold_of, signals.problem, fit)
        reliability = subtract_found(reliability, before, float((given != observed).mean()))
    reliability = replace(reliability, caution=signals.caution)
    suggested = predicted.argmax(1)
    is_verified = np.zeros(len(observed), dtype=bool) if verified is None else verified
    return AuditResult(
        reliability,
        None if reliability.problem else posterior_transition(observed if given is None else given, fit.posterior),
        error_score,
        # Ties are broken by the margin of the networks that were not trained on the example.
        np.lexsort((-scores["confident"], -error_score["combined"], is_verified)),
        suggested,
        predicted[rows, suggested],
        predicted[rows, observed],
        _agreement(error_score, max(1, _num_suspects(reliability.noise_rate, len(observed)))),
        int(is_verified.sum()),
    )


def posterior_score(
    observed: NDArray[np.int64], predicted: NDArray[np.float64], fit: ForwardFit
) -> NDArray[np.float64]:
    """Return the negative logarithm of the probability that the label is correct, and half that of its prediction.

    The prediction orders labels that the fit takes for certainly incorrect, of which there are many under heavy noise.
    """
    rows = np.arange(len(observed))
    posterior, prediction = fit.posterior[rows, observed], predicted[rows, observed]
    return np.asarray(-np.log(np.maximum(posterior, 1e-300)) - 0.5 * np.log(np.maximum(prediction, SMALLEST)))


def _num_suspects(noise_rate: float | None, size: int) -> int:
    return math.ceil(REVIEW_FRACTION * size) if noise_rate is None else round(noise_rate * size)


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
