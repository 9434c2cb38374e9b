"""Detectors that compare features with those of a class, or train on them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from noisybench.audit.detectors.result import SMALLEST, DetectorResult, Floats, Labels
from noisybench.nn.spectrum import NEGLIGIBLE, spectrum_of


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
