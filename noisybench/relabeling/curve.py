"""Relabeling under a budget on data with known clean labels: errors found and accuracy after retraining."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from noisybench.audit.findings import analyze
from noisybench.audit.probe import MAX_STEPS, probe_features
from noisybench.utils.seeds import Stream

RANDOM, ORACLE, ACTIVELAB, REPEATED = "random", "oracle", "activelab", "repeated_audit"

ACTIVE = (ACTIVELAB, REPEATED)
"""Strategies that predict all labels again after each batch."""

Progress = Callable[[int, str], None]
"""Function that receives the draw and the strategy that are finished."""


@dataclass(frozen=True)
class RelabelingData:
    """Features with observed and clean labels.

    Attributes:
        features: (N, D) features of the training examples.
        observed: (N,) observed labels.
        clean: (N,) clean labels, which a person would see.
        test_features: (M, D) features of the test examples.
        test_targets: (M,) clean labels of the test examples.
        num_classes: number of classes.
    """

    features: NDArray[np.float32]
    observed: NDArray[np.int64]
    clean: NDArray[np.int64]
    test_features: NDArray[np.float32]
    test_targets: NDArray[np.int64]
    num_classes: int

    def draw(self, count: int, draw: int, seed: int) -> RelabelingData:
        """Return a random subset of the training examples; the same call returns the same examples."""
        rows = Stream("relabeling", seed, draw).permutation(len(self.observed))[:count]
        return replace(self, features=self.features[rows], observed=self.observed[rows], clean=self.clean[rows])


@dataclass(frozen=True)
class CurvePoint:
    """Result of one strategy after some labels were looked at.

    Attributes:
        strategy: name of the strategy.
        draw: number of the random subset.
        looked_at: number of labels that were looked at, and replaced where they are incorrect.
        errors_found: fraction of all incorrect labels that are among them.
        accuracy: test accuracy of a logistic regression on the labels thereafter.
    """

    strategy: str
    draw: int
    looked_at: int
    errors_found: float
    accuracy: float


def simulate(
    data: RelabelingData,
    budgets: Sequence[int],
    draw: int = 0,
    folds: int = 3,
    on_strategy: Progress = lambda draw, strategy: None,
) -> list[CurvePoint]:
    """Simulate relabeling with every strategy, from no label to the largest budget.

    Fixed orders are those of each detector of an audit and of their combination `combined`, which on features is the detector
    `posterior` and is simulated once; a random one, and the best possible one (`oracle`: all incorrect labels first).
    `repeated_audit` audits again after each budget, and `activelab` orders the labels that were not looked at by the score of
    ActiveLab (Goh and Mueller 2023). With one given label for each example, and verified labels that are not looked at again,
    this is self-confidence: the order of the probability that a model which was not trained on the example gives to its label,
    recomputed after each budget.

    Args:
        data: features with observed and clean labels.
        budgets: numbers of labels to look at, ascending, from 1 to N.
        draw: number of the random subset, which also is the seed of the folds.
        folds: number of folds of each audit.
        on_strategy: function that receives the draw and each finished strategy.

    Returns:
        Points by strategy, each from 0 to the largest budget.

    Example:
        >>> clean = np.arange(90) % 3
        >>> observed = np.where(np.arange(90) < 9, (clean + 1) % 3, clean)
        >>> features = np.eye(3, 4, dtype=np.float32)[clean]
        >>> points = simulate(RelabelingData(features, observed, clean, features, clean, 3), [9])
        >>> [(point.looked_at, point.errors_found) for point in points if point.strategy == "combined"]
        [(0, 0.0), (9, 1.0)]
    """
    data, incorrect = _standardized(data), data.observed != data.clean
    first = analyze(data.observed, probe_features(data.features, data.observed, data.num_classes, folds, draw))
    # Ties are broken at random, because the rows of a source may be sorted by class.
    shuffled = Stream("relabeling order", draw).permutation(len(incorrect))
    orders = {RANDOM: shuffled, ORACLE: shuffled[np.argsort(~incorrect[shuffled], kind="stable")]}
    # From the last one, which is `combined`: a detector that it equals, as it does on features, is not simulated again.
    for name, score in reversed(first.error_score.items()):
        ranked = shuffled[np.argsort(-score[shuffled], kind="stable")]
        if not any(np.array_equal(ranked, other) for other in orders.values()):
            orders[name] = ranked
    start = _accuracy(data, data.observed)
    points = []
    for strategy in (*orders, *ACTIVE):
        seen, labels = np.zeros(len(incorrect), dtype=bool), data.observed.copy()
        points.append(CurvePoint(strategy, draw, 0, 0.0, start))
        for budget in budgets:
            order = orders.get(strategy)
            if order is None:
                signals = probe_features(data.features, labels, data.num_classes, folds, draw)
                if strategy == REPEATED:
                    order = analyze(labels, signals, seen).ranking
                else:
                    order = np.argsort(activelab_scores(signals.probabilities, labels), kind="stable")
            chosen = order[~seen[order]][: budget - int(seen.sum())]
            seen[chosen] = True
            labels[chosen] = data.clean[chosen]
            found = float(incorrect[seen].sum() / max(1, incorrect.sum()))
            points.append(CurvePoint(strategy, draw, budget, found, _accuracy(data, labels)))
        on_strategy(draw, strategy)
    return points


def _standardized(data: RelabelingData) -> RelabelingData:
    """Return the data with the mean 0 and the deviation 1 of each training feature."""
    mean, deviation = data.features.mean(0), data.features.std(0)
    scale = np.where(deviation > 0, deviation, 1).astype(np.float32)
    return replace(data, features=(data.features - mean) / scale, test_features=(data.test_features - mean) / scale)


def activelab_scores(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the ActiveLab score of examples with one label each; the lowest are to be looked at first.

    The consensus label is the given one, and its quality the predicted probability. The score is the mean of this quality and
    of 1/C, weighted by the annotations and the model (one each) and by one further annotation.

    Args:
        probabilities: (N, C) predictions of models that were not trained on the example.
        labels: (N,) labels.

    Example:
        >>> activelab_scores(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1])).round(3)
        array([0.767, 0.433])
    """
    quality = probabilities[np.arange(len(labels)), labels]
    return np.asarray((2 * quality + 1 / probabilities.shape[1]) / 3)


def _accuracy(data: RelabelingData, labels: NDArray[np.int64]) -> float:
    """Return the test accuracy of a logistic regression that is trained on the labels and on standardized features."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    # As in an audit: the sum over D standardized features grows with D, and the penalty with it.
    regression = LogisticRegression(C=1 / data.features.shape[1], max_iter=MAX_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        regression.fit(data.features, labels)
    return float((regression.predict(data.test_features) == data.test_targets).mean())
