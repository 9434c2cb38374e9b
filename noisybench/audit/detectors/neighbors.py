"""Detectors that read the labels of the nearest neighbors in features."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from noisybench.audit.detectors.consensus import consensus_transition
from noisybench.audit.detectors.result import DetectorResult, Floats, Labels
from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.errors import UserError
from noisybench.nn.neighbors import nearest_neighbors, unit_rows

RATE_LIMITS = (0.05, 0.95)
"""Noise rates of a class in place of an estimate of 0 or less, or 1 or more (SimiFeat)."""


def neighbors(*, labels: Labels, features: NDArray[np.float32], k: int = 20) -> DetectorResult:
    """Return the fraction of the `k` nearest other examples, by cosine similarity, with another label; flag a majority.

    Example:
        >>> points = np.array([[1, 0], [1, 0.1], [1, 0.2], [0, 1]], dtype=np.float32)
        >>> neighbors(labels=np.array([0, 1, 1, 1]), features=points, k=2).scores
        array([1. , 0.5, 0.5, 0. ])
    """
    nearest = _nearest(features, k)[1]
    scores = (labels[nearest] != labels[:, None]).mean(1)
    return DetectorResult(scores, scores > 0.5)


def deep_knn(*, labels: Labels, features: NDArray[np.float32], k: int = 20) -> DetectorResult:
    """Return the most votes of another class minus those of the label, as fractions; flag where it is positive.

    The `k` voters are the example and its nearest neighbors by Euclidean distance (deep k-NN, Bahri, Jiang and Gupta 2020).
    The paper's features are the logits of a model trained on the labels.

    Example:
        >>> points = np.array([[0.0], [0.1], [0.2], [5.0]], dtype=np.float32)
        >>> deep_knn(labels=np.array([0, 1, 1, 1]), features=points, k=3).flagged
        array([ True, False, False, False])
    """
    points = torch.from_numpy(features).double()
    points -= points.mean(0)
    # Products of (x, 1) and (y, -|y|^2 / 2) are in the order of the distances of y from x.
    queries = torch.cat([points, torch.ones(len(points), 1)], dim=1)
    keys = torch.cat([points, -points.square().sum(1, keepdim=True) / 2], dim=1)
    nearest = nearest_neighbors(queries, keys, min(k, len(points)) - 1, own=torch.arange(len(points)))[1].numpy()
    votes, rows = _votes(labels, nearest, np.ones((len(labels), nearest.shape[1] + 1))), np.arange(len(labels))
    of_label = votes[rows, labels].copy()
    votes[rows, labels] = -np.inf
    scores = (votes.max(1, initial=0) - of_label) / (nearest.shape[1] + 1)
    return DetectorResult(scores, scores > 0)


def simifeat(
    *, labels: Labels, features: NDArray[np.float32], k: int = 10, variant: Literal["rank", "vote"] = "rank"
) -> DetectorResult:
    """Return one minus the cosine similarity of the label and the votes of its neighbors (SimiFeat, Zhu et al. 2022).

    The `k` voters are the example and its nearest neighbors, weighted by cosine similarity. `rank` flags the least similar
    labels of each class, as many as are incorrect by the consensus of two neighbors (HOC), but none without a vote for
    another class; `vote` flags labels that have fewer votes than another class.

    Raises:
        UserError: `rank` is given fewer than three examples.

    Example:
        >>> points = np.repeat(np.eye(2, dtype=np.float32), 6, axis=0)
        >>> simifeat(labels=np.array([0, 0, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1]), features=points, k=6, variant="vote").scores.round(2)
        array([0.02, 0.02, 0.8 , 0.02, 0.02, 0.02, 0.  , 0.  , 0.  , 0.  , 0.  , 0.  ])
    """
    if variant == "rank" and len(labels) < 3:
        raise UserError(
            f"simifeat: `rank` compares labels with two neighbors, but there are {len(labels)} examples; give three or more, "
            "or set variant=vote"
        )
    rows = np.arange(len(labels))
    similarities, nearest = _nearest(features, max(k - 1, 2))
    # An example votes with the similarity at which a nearer neighbor would be if the distances went on evenly.
    own = 2 * similarities[:, :1] - similarities[:, 1:2] if similarities.shape[1] > 1 else similarities
    weights = np.concatenate([own, similarities[:, : k - 1]], axis=1).clip(min=0)
    votes = _votes(labels, nearest[:, : k - 1], weights)
    votes /= np.maximum(np.linalg.norm(votes, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    scores = 1 - votes[rows, labels]
    others = votes.copy()
    others[rows, labels] = 0
    if variant == "vote":
        return DetectorResult(scores, others.max(1) > votes[rows, labels])
    transition, classes = consensus_transition(labels[np.column_stack([rows, nearest[:, :2]])], votes.shape[1])
    # Labels with equal scores are flagged together, which would be most of a class whose neighbors all agree.
    return DetectorResult(scores, least_similar(scores, labels, np.diag(transition) * classes) & others.any(1))


def least_similar(scores: Floats, labels: Labels, correct: Floats) -> NDArray[np.bool_]:
    """Return True for the highest scores of each label, as many as are incorrect.

    Args:
        scores: (N,) scores.
        labels: (N,) labels.
        correct: (C,) probabilities that an example is of a class and labeled as such.

    Example:
        >>> scores = np.array([0.1, 0.3, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8])
        >>> least_similar(scores, np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.array([0.375, 0.25])).nonzero()[0]
        array([3, 6, 7])
    """
    flagged, low, high = np.zeros(len(labels), dtype=bool), *RATE_LIMITS
    for label in np.unique(labels):
        members = labels == label
        rate = 1 - min(float(correct[label] / members.mean()), 1.0)
        rate = high if rate >= 1 else low if rate <= 0 else rate
        flagged[members] = scores[members] >= np.quantile(scores[members], 1 - rate)
    return flagged


def _votes(labels: Labels, nearest: NDArray[np.int64], weights: Floats) -> Floats:
    """Return the (N, C) votes for each class, by the labels of each example and of its K neighbors.

    Args:
        labels: (N,) labels.
        nearest: (N, K) positions of the neighbors.
        weights: (N, 1 + K) weights of the votes, first that of the example.
    """
    votes, rows = np.zeros((len(labels), int(labels.max()) + 1)), np.arange(len(labels))
    np.add.at(votes, (rows[:, None], labels[np.column_stack([rows, nearest])]), weights)
    return votes


def _nearest(features: NDArray[np.float32], count: int) -> tuple[Floats, NDArray[np.int64]]:
    """Return the (N, K) largest cosine similarities of each example to others, in descending order, and their positions."""
    points = unit_rows(torch.from_numpy(features))
    found = nearest_neighbors(points, points, min(count, len(points) - 1), own=torch.arange(len(points)))
    return found[0].double().numpy(), found[1].numpy()


CARDS: dict[str, Fidelity] = {
    "deep_knn": Fidelity(
        formula="score = (max_c≠y v_c - v_y) / k,  v: votes of the example and its k - 1 nearest neighbors",
        reference="https://github.com/scikit-learn/scikit-learn",
        commit="1.9.1",
        license="BSD-3-Clause",
        compared=(
            "shares of votes and flags of 120 features of 4 classes at 1, 7 and 25 voters against `KNeighborsClassifier` on "
            "its own training set; the authors of the method published no code"
        ),
        difference="1e-15 in the shares; no flag differs without a tie",
        deviations=(
            Deviation(
                "a label with as many votes as another class is not flagged; the library takes the first class",
                "a tie contradicts no label",
                "only ties: 0, 9 and 2 of 120 labels at 1, 7 and 25 voters",
            ),
            Deviation(
                "features are given; the paper takes the logits of a model that it trains first",
                "a detector trains nothing",
                "depends on the features",
            ),
        ),
    ),
    "neighbors": Fidelity(
        formula="score = share of the k nearest other examples by cosine similarity whose label is not y",
        reference="https://github.com/scikit-learn/scikit-learn",
        commit="1.9.1",
        license="BSD-3-Clause",
        compared="shares of 120 examples of 4 classes at 1, 7 and 20 neighbors, by its `NearestNeighbors` (brute force, cosine "
        "distance)",
        difference="0 in the shares",
    ),
    "simifeat": Fidelity(
        formula="score = 1 - v_y / |v|,  v: votes of k examples by cosine similarity",
        reference="https://github.com/UCSC-REAL/SimiFeat",
        commit="534af484f3831891ae698b73892425e63482c4b0",
        license="CC-BY-NC-4.0",
        compared="votes, scores, transition matrix after 20 and 400 steps, and both selections of 240 features of 4 classes",
        difference="1.7e-7 in the scores and after 20 steps; no selected example differs",
        golden=("simifeat",),
        deviations=(
            Deviation(
                "one pass over given features; the authors decide by a majority of 21 passes over augmented images",
                "features are what is given",
                "not measured",
            ),
            Deviation(
                "the noise rate of a class is the estimate; the authors add a random offset within .05",
                "equal calls give equal flags",
                "at most 5 % of the examples of a class are flagged or not",
            ),
            Deviation(
                "the consensus is counted once, on all examples; the authors average 10 draws of 15,000 examples",
                "no sampling error",
                "none for up to 15,000 examples",
            ),
            Deviation(
                "the optimization starts from equal classes and in double precision; the authors' start is random, in single "
                "precision",
                "equal calls give equal flags",
                "after all steps, entries of the transition matrix differ by .004 from the same start and by at most .006 from "
                "four random ones",
            ),
            Deviation(
                "a negative similarity counts as 0; the authors count it",
                "the logarithm of a negative vote has no value",
                "none for non-negative features",
            ),
            Deviation(
                "a label with as many votes as another class is not flagged; the authors take the first class",
                "a tie contradicts no label",
                "only ties",
            ),
            Deviation(
                "a label without a vote for another class is not flagged; the authors flag a whole class whose scores are equal",
                "neighbors that all agree contradict no label",
                "none in the frozen vectors",
            ),
        ),
    ),
}
"""Fidelity cards by detector."""
