"""From signals to findings: how many labels are wrong, which classes are taken for which, and which examples to look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisybench.audit.signals import Signals

TOP = (0.01, 0.05)
"""Shares of the data for which the first suspects are judged."""


@dataclass(frozen=True)
class Findings:
    """Of N examples with C classes.

    Attributes:
        rate: estimated share of wrong labels.
        transition: (C, C) estimated probability of the observed class (column), given the true one (row).
        suspicion: by detector, (N,) ranks in [0, 1], higher where the label is more likely wrong; `combined` is their mean.
        order: (N,) examples from the most to the least suspect, by `combined`.
        suggested: (N,) class that a network gives which was not trained on the example.
        confidence: (N,) its probability.
        agreement: by pair of detectors, Spearman's rank correlation, and the share that their first `rate * N` suspects have in
            common.
    """

    rate: float
    transition: NDArray[np.float64]
    suspicion: dict[str, NDArray[np.float64]]
    order: NDArray[np.int64]
    suggested: NDArray[np.int64]
    confidence: NDArray[np.float64]
    agreement: dict[tuple[str, str], tuple[float, float]]

    @property
    def flagged(self) -> int:
        """How many suspects the estimated rate makes."""
        return round(self.rate * len(self.order))


def joint_counts(observed: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """(C, C) confident joint: observed class (row) and confidently predicted class (column), calibrated to sum to N.

    An example counts as of the most probable class among those whose probability reaches its threshold, the mean
    probability of that class among the examples observed in it (Northcutt, Jiang and Chuang 2021, equation 1 and
    the calibration of equation 3). Rows sum to the number of examples observed in the class.
    """
    classes = probabilities.shape[1]
    sizes = np.bincount(observed, minlength=classes)
    own = probabilities[np.arange(len(observed)), observed]
    # A class that nobody is observed in has no threshold that could be reached.
    thresholds = np.divide(
        np.bincount(observed, weights=own, minlength=classes), sizes, out=np.full(classes, np.inf), where=sizes > 0
    )
    # Means are of rounded numbers: what reaches its threshold but for the last bits does reach it.
    confident = np.where(probabilities >= thresholds - 1e-6, probabilities, -1.0)
    found = confident.max(1) >= 0
    counts = np.zeros((classes, classes))
    np.add.at(counts, (observed[found], confident[found].argmax(1)), 1)
    empty = counts.sum(1) == 0
    counts[empty, empty] = 1.0  # nothing is known of such a class, so its labels are taken as they are
    return np.asarray(counts / counts.sum(1, keepdims=True) * sizes[:, None])


def rate_and_transition(counts: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Share of wrong labels, and (C, C) probability of the observed class (column) given the true one (row), from the joint."""
    true = counts.sum(0)
    eye = np.eye(len(counts))
    transition = np.where(true[:, None] > 0, counts.T / np.maximum(true, 1e-12)[:, None], eye)
    return float(1 - np.trace(counts) / counts.sum()), transition


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks in [0, 1], ties shared."""
    from scipy.stats import rankdata

    return np.asarray((rankdata(values) - 1) / max(len(values) - 1, 1))


def find(observed: NDArray[np.int64], signals: Signals) -> Findings:
    """What the signals tell of (N,) observed labels.

    Detectors: `confident`, the normalised margin of predictions by networks that have not seen the label (Northcutt, Jiang
    and Chuang 2021); `training`, the margin over training of those that have (Pleiss et al. 2020); `neighbours`, labels of
    the nearest examples.
    """
    rows, predicted = np.arange(len(observed)), signals.probabilities
    others = predicted.copy()
    others[rows, observed] = -1.0
    scores = {"confident": others.max(1) - predicted[rows, observed], "training": -signals.margins}
    if signals.neighbours is not None:
        scores["neighbours"] = signals.neighbours
    suspicion = {name: ranks(each) for name, each in scores.items()}
    suspicion["combined"] = np.mean(list(suspicion.values()), axis=0)
    rate, transition = rate_and_transition(joint_counts(observed, predicted))
    suggested = predicted.argmax(1)
    return Findings(
        rate,
        transition,
        suspicion,
        # Of equal suspicion the one of which the other networks are surer comes first.
        np.lexsort((-scores["confident"], -suspicion["combined"])),
        suggested,
        predicted[rows, suggested],
        _agreement(suspicion, max(1, round(rate * len(observed)))),
    )


def _agreement(suspicion: dict[str, NDArray[np.float64]], first: int) -> dict[tuple[str, str], tuple[float, float]]:
    names = [name for name in suspicion if name != "combined"]
    top = {name: set(np.argsort(-suspicion[name], kind="stable")[:first].tolist()) for name in names}
    return {
        (a, b): (_correlation(suspicion[a], suspicion[b]), len(top[a] & top[b]) / first)
        for place, a in enumerate(names)
        for b in names[place + 1 :]
    }


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Of ranks; 0 where one of the two tells no example from another."""
    if not (np.ptp(first) and np.ptp(second)):
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def precision(suspicion: NDArray[np.float64], wrong: NDArray[np.bool_], share: float) -> float:
    """Share of wrong labels among the first suspects, which are a share of all examples."""
    first = np.argsort(-suspicion, kind="stable")[: max(1, round(share * len(wrong)))]
    return float(wrong[first].mean())
