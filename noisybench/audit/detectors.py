"""Detectors of mislabeled examples as pure functions of given numbers: predictions, features, losses, training dynamics.

Each function of `DETECTORS` returns `DetectorResult`: scores that are higher where the label is more likely incorrect, and
flags where the detector has a threshold of its own. Keyword arguments without a default are what the detector needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from noisybench.audit.confident_joint import TOLERANCE, class_thresholds
from noisybench.audit.findings import posterior_score
from noisybench.audit.forward import fit_forward
from noisybench.audit.reliability import contradiction
from noisybench.audit.signals import CHUNK_SIZE
from noisybench.evaluation.mixture import two_components
from noisybench.nn.spectrum import NEGLIGIBLE, spectrum_of

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

SMALLEST = 1e-12
"""Probability by which zeros are replaced in logarithms and quotients."""


class DetectorResult(NamedTuple):
    """Result of a detector for N examples.

    Attributes:
        scores: (N,) numbers, higher where the label is more likely incorrect.
        flagged: (N,) True where the detector takes the label for incorrect; None if it only ranks.
    """

    scores: Floats
    flagged: NDArray[np.bool_] | None = None


def self_confidence(*, labels: Labels, pred_probs: Floats) -> DetectorResult:
    """Return one minus the predicted probability of the observed label.

    Example:
        >>> self_confidence(labels=np.array([0, 1]), pred_probs=np.array([[0.75, 0.25], [0.75, 0.25]])).scores
        array([0.25, 0.75])
    """
    return DetectorResult(1 - pred_probs[np.arange(len(labels)), labels])


def margin(*, labels: Labels, pred_probs: Floats) -> DetectorResult:
    """Return the largest probability of the other classes minus that of the label; flag where another class is ahead.

    Example:
        >>> margin(labels=np.array([0, 1]), pred_probs=np.array([[0.75, 0.25], [0.75, 0.25]])).flagged
        array([False,  True])
    """
    scores = contradiction(labels, pred_probs)
    return DetectorResult(scores, scores > 0)


def entropy(*, labels: Labels, pred_probs: Floats) -> DetectorResult:
    """Return the entropy of the prediction, as a fraction of the largest one, over the probability of the label.

    This is the confidence-weighted entropy of Northcutt, Jiang and Chuang (2021), up to its normalization.

    Example:
        >>> entropy(labels=np.array([0, 1]), pred_probs=np.array([[0.5, 0.5], [1.0, 0.0]])).scores
        array([2., 0.])
    """
    normalized = -(pred_probs * np.log(np.maximum(pred_probs, SMALLEST))).sum(1) / np.log(pred_probs.shape[1])
    return DetectorResult(np.abs(normalized) / np.maximum(pred_probs[np.arange(len(labels)), labels], SMALLEST))


def confident_joint(*, labels: Labels, pred_probs: Floats) -> DetectorResult:
    """Flag labels off the diagonal of the confident joint, and score by the margin (Northcutt, Jiang and Chuang 2021).

    A label is flagged if the most probable class among those that reach their threshold is another one; the threshold of a
    class is the mean prediction of it over its own examples.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.9, 0.1]])
        >>> confident_joint(labels=np.array([0, 0, 1, 1]), pred_probs=probabilities).flagged
        array([False, False, False,  True])
    """
    num_classes = pred_probs.shape[1]
    of_label = pred_probs[np.arange(len(labels)), labels]
    sizes = np.bincount(labels, minlength=num_classes)
    thresholds = class_thresholds(np.bincount(labels, weights=of_label, minlength=num_classes), sizes)
    confident = np.where(pred_probs >= thresholds - TOLERANCE, pred_probs, -1.0)
    flagged = (confident.max(1) >= 0) & (confident.argmax(1) != labels)
    return DetectorResult(contradiction(labels, pred_probs), flagged)


def posterior(*, labels: Labels, pred_probs: Floats) -> DetectorResult:
    """Score by the posterior probability that the label is incorrect, as `noisybench audit` ranks; flag where it exceeds 1/2.

    A transition matrix and a calibration of the predictions are fitted to the labels by maximum likelihood.

    Example:
        >>> clean = np.arange(100) % 2
        >>> labels = np.where(np.arange(100) < 10, 1 - clean, clean)
        >>> int(posterior(labels=labels, pred_probs=0.8 * np.eye(2)[clean] + 0.1).flagged.sum())
        10
    """
    fit = fit_forward(labels, pred_probs)
    return DetectorResult(posterior_score(labels, pred_probs, fit), fit.posterior[np.arange(len(labels)), labels] < 0.5)


def neighbors(*, labels: Labels, features: NDArray[np.float32], k: int = 20) -> DetectorResult:
    """Return the fraction of the `k` nearest other examples, by cosine similarity, with another label; flag a majority.

    Example:
        >>> points = np.array([[1, 0], [1, 0.1], [1, 0.2], [0, 1]], dtype=np.float32)
        >>> neighbors(labels=np.array([0, 1, 1, 1]), features=points, k=2).scores
        array([1. , 0.5, 0.5, 0. ])
    """
    directions, classes = functional.normalize(torch.from_numpy(features), dim=1), torch.from_numpy(labels)
    fractions = []
    for start in range(0, len(directions), CHUNK_SIZE):
        similarities = directions[start : start + CHUNK_SIZE] @ directions.T
        rows = torch.arange(len(similarities))
        similarities[rows, start + rows] = -torch.inf  # no example is its own neighbor
        nearest = similarities.topk(min(k, len(directions) - 1), dim=1).indices
        fractions.append((classes[nearest] != classes[start : start + CHUNK_SIZE, None]).double().mean(1))
    scores = torch.cat(fractions).numpy()
    return DetectorResult(scores, scores > 0.5)


def mahalanobis(*, labels: Labels, features: NDArray[np.float32]) -> DetectorResult:
    """Return the squared Mahalanobis distance to the mean of the labeled class minus that to the nearest other class.

    All classes share one covariance (Lee et al. 2018). A label is flagged if the mean of another class is nearer.

    Example:
        >>> points = np.array([[0.0], [0.1], [1.0], [1.1], [0.05]], dtype=np.float32)
        >>> mahalanobis(labels=np.array([0, 0, 1, 1, 1]), features=points).flagged
        array([False, False, False, False,  True])
    """
    num_classes = int(labels.max()) + 1
    spectrum = spectrum_of(torch.from_numpy(features), torch.from_numpy(labels), num_classes)
    values, vectors = torch.linalg.eigh(spectrum.within_class_covariance())
    # Directions without variance would have infinite weight.
    kept = values > NEGLIGIBLE * values[-1].clamp_min(torch.finfo(torch.float64).tiny)
    whitening = vectors[:, kept] / values[kept].sqrt()
    points = (torch.from_numpy(features).double() - spectrum.mean) @ whitening
    distances = torch.cdist(points, (spectrum.class_means() - spectrum.mean) @ whitening).square().numpy()
    distances[:, np.bincount(labels, minlength=num_classes) == 0] = np.inf
    # The negative distances take the place of probabilities: the nearest other class minus the own one.
    rows, others = np.arange(len(labels)), distances.copy()
    others[rows, labels] = np.inf
    scores = distances[rows, labels] - others.min(1)
    return DetectorResult(scores, scores > 0)


def fine(*, labels: Labels, features: NDArray[np.float32]) -> DetectorResult:
    """Return minus the alignment of features with the main direction of their class, from 0 to 1; flag the lower of two clusters.

    The main direction is the first singular vector of the features of the label, which correct labels dominate, and the
    clusters are those of the alignments of each label (FINE, Kim et al. 2021).

    Example:
        >>> points = np.array([[1.0, 0.1], [1.0, -0.1], [2.0, 0.1], [0.1, 1.0], [0.0, 3.0]], dtype=np.float32)
        >>> fine(labels=np.array([0, 0, 0, 0, 1]), features=points).flagged
        array([False, False, False,  True, False])
    """
    alignments, flagged = np.zeros(len(labels)), np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        points = torch.from_numpy(features[members]).double()
        # The last eigenvector of the Gram matrix is the first singular vector, without factors of the size of the data.
        direction = torch.linalg.eigh(points.T @ points).eigenvectors[:, -1]
        cosines = (points @ direction).abs() / points.norm(dim=1).clamp_min(SMALLEST)
        alignments[members] = cosines.numpy()
        flagged[members] = alignments[members] < two_cluster_threshold(alignments[members])
    return DetectorResult(-alignments, flagged)


def data_oob(*, labels: Labels, features: NDArray[np.float32], trees: int = 100, seed: int = 1) -> DetectorResult:
    """Return the fraction of the trees trained without an example that predict another label; flag a majority.

    Each tree is fully grown on a bootstrap sample of all examples (Data-OOB, Kwon and Zou 2023, with 800 trees). An example
    that all samples contain, which few trees may cause, has the mean score of the others.

    Example:
        >>> points = np.arange(12, dtype=np.float32)[:, None] + np.repeat([0, 90], 6)[:, None].astype(np.float32)
        >>> int(data_oob(labels=np.array([0, 0, 0, 1, 0, 0, 1, 1, 1, 1, 1, 1]), features=points).scores.argmax())
        3
    """
    from sklearn.ensemble import BaggingClassifier
    from sklearn.tree import DecisionTreeClassifier

    # Samples are drawn by position; in the order of their values, each example has the same score wherever it is.
    order = np.lexsort((labels, *features.T))
    points, classes = features[order], labels[order]
    bagging = BaggingClassifier(DecisionTreeClassifier(), n_estimators=trees, random_state=seed).fit(points, classes)
    errors, counts = np.zeros(len(labels)), np.zeros(len(labels))
    for tree, sample in zip(bagging.estimators_, bagging.estimators_samples_, strict=True):
        left_out = np.flatnonzero(np.bincount(sample, minlength=len(labels)) == 0)
        if len(left_out):
            predicted = bagging.classes_[tree.predict(points[left_out]).astype(np.int64)]
            errors[left_out] += predicted != classes[left_out]
            counts[left_out] += 1
    known = counts > 0
    fractions = np.full(len(labels), errors[known].sum() / max(counts[known].sum(), 1))
    fractions[known] = errors[known] / counts[known]
    scores = np.empty(len(labels))
    scores[order] = fractions
    return DetectorResult(scores, scores > 0.5)


def two_cluster_threshold(values: Floats) -> float:
    """Return the number between the two clusters of (N,) values that are nearest to their means; -inf if all are equal.

    The division is the best one of all, which the algorithm of k-means may miss.

    Example:
        >>> two_cluster_threshold(np.array([0.0, 5.0, 1.0, 6.0]))
        3.0
    """
    ordered, sizes = np.sort(values), np.arange(1, len(values))
    if not len(sizes) or ordered[0] == ordered[-1]:
        return -np.inf
    low, high = np.cumsum(ordered)[:-1] / sizes, np.cumsum(ordered[::-1])[::-1][1:] / sizes[::-1]
    # The sum of squares within the clusters is smallest where that between them is largest.
    split = int((sizes * sizes[::-1] * (high - low) ** 2).argmax())
    return float((ordered[split] + ordered[split + 1]) / 2)


def small_loss(*, losses: Floats) -> DetectorResult:
    """Return the posterior probability of the component of large losses in a mixture of two Gaussians; flag above 1/2.

    The mixture is that of DivideMix (Li et al. 2020). Losses of several epochs, (E, N), are averaged.

    Example:
        >>> small_loss(losses=np.array([0.1, 0.2, 0.1, 0.2, 3.0, 3.1])).flagged
        array([False, False, False, False,  True,  True])
    """
    scores = two_components(torch.from_numpy(np.atleast_2d(losses).mean(0))).high.double().numpy()
    return DetectorResult(scores, scores > 0.5)


def aum(*, margins: Floats) -> DetectorResult:
    """Return minus the area under the margin: the mean, over training steps, of the logged margins (Pleiss et al. 2020).

    A margin is the logit of the observed label minus the largest other logit; (E, N) or, averaged already, (N,).

    Example:
        >>> aum(margins=np.array([[2.0, -1.0], [4.0, -3.0]])).scores
        array([-3.,  2.])
    """
    return DetectorResult(-np.atleast_2d(margins).mean(0))


def el2n(*, labels: Labels, pred_probs: Floats) -> DetectorResult:
    """Return the Euclidean norm of predictions minus the one-hot label (Paul et al. 2021), of networks trained for a few epochs.

    Predictions of several networks, (K, N, C), give the mean of their norms.

    Example:
        >>> el2n(labels=np.array([0, 1]), pred_probs=np.array([[1.0, 0.0], [1.0, 0.0]])).scores.round(3)
        array([0.   , 1.414])
    """
    errors = (pred_probs if pred_probs.ndim == 3 else pred_probs[None]).copy()
    errors[:, np.arange(len(labels)), labels] -= 1
    return DetectorResult(np.sqrt(np.square(errors).sum(2)).mean(0))


def forgetting(*, correct: NDArray[np.bool_]) -> DetectorResult:
    """Return how often a correct prediction became incorrect, from (E, N) flags of E epochs (Toneva et al. 2019).

    An example that was never predicted correctly counts E times.

    Example:
        >>> forgetting(correct=np.array([[True, False, True], [False, False, True], [True, False, True]])).scores
        array([1., 3., 0.])
    """
    forgotten = (correct[:-1] & ~correct[1:]).sum(0)
    return DetectorResult(np.where(correct.any(0), forgotten, len(correct)).astype(np.float64))


def trust(*, trust_scores: Floats) -> DetectorResult:
    """Return minus given trust scores, which are higher where the label is more likely correct.

    Example:
        >>> trust(trust_scores=np.array([0.75, 0.25])).scores
        array([-0.75, -0.25])
    """
    return DetectorResult(-trust_scores)


def self_influence(*, attributions: Floats) -> DetectorResult:
    """Return the influence of each training example on its own loss: mislabeled examples are their own best support.

    Args:
        attributions: (N,) self-influences, or (N, N) influences of training examples on the same examples.

    Example:
        >>> self_influence(attributions=np.array([[5.0, 1.0], [0.0, 2.0]])).scores
        array([5., 2.])
    """
    return DetectorResult(np.diagonal(attributions).copy() if attributions.ndim == 2 else attributions)


def tracin(*, labels: Labels, features: NDArray[np.float32], pred_probs: Floats) -> DetectorResult:
    """Return the influence of each example on its own loss through the weights of the last layer (TracIn, Pruthi et al. 2020).

    The gradient of the cross-entropy is the outer product of prediction minus label and feature, so that the score is the
    product of their squared norms. Predictions of E checkpoints, (E, N, C), give the mean over checkpoints, which counts
    their learning rates alike. The features are those of all checkpoints, as in training on a frozen backbone.

    Example:
        >>> points = np.array([[1.0, 2.0], [1.0, 2.0]], dtype=np.float32)
        >>> tracin(labels=np.array([0, 1]), features=points, pred_probs=np.array([[1.0, 0.0], [1.0, 0.0]])).scores
        array([ 0., 10.])
    """
    errors = (pred_probs if pred_probs.ndim == 3 else pred_probs[None]).copy()
    errors[:, np.arange(len(labels)), labels] -= 1
    return DetectorResult(np.square(errors).sum(2).mean(0) * np.square(features.astype(np.float64)).sum(1))


DETECTORS: dict[str, Callable[..., DetectorResult]] = {
    function.__name__: function
    for function in (
        aum, confident_joint, data_oob, el2n, entropy, fine, forgetting, mahalanobis, margin, neighbors, posterior,
        self_confidence, self_influence, small_loss, tracin, trust,
    )
}  # fmt: skip
"""Detectors by name."""
