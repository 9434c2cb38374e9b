"""Detectors that compare features with those of a class, or train on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from noisybench.audit.detectors.result import SMALLEST, DetectorResult, Floats, Labels
from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.nn.spectrum import NEGLIGIBLE, spectrum_of

if TYPE_CHECKING:
    from sklearn.ensemble import BaggingClassifier


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
    scores = np.empty(len(labels))
    scores[order] = left_out_errors(classes, _left_out_predictions(bagging, points))
    return DetectorResult(scores, scores > 0.5)


def left_out_errors(labels: Labels, predictions: Iterable[tuple[Labels, Labels]]) -> Floats:
    """Return the (N,) fractions of the predictions of each example that are not its label; their mean without any.

    Args:
        labels: (N,) labels.
        predictions: for each classifier, positions of examples that it was not trained on, and the classes it predicts.

    Example:
        >>> both = [(np.array([0, 1]), np.array([5, 5])), (np.array([0]), np.array([7]))]
        >>> left_out_errors(np.array([5, 7, 5]), both)
        array([0.5       , 1.        , 0.66666667])
    """
    errors, counts = np.zeros(len(labels)), np.zeros(len(labels))
    for left_out, predicted in predictions:
        errors[left_out] += predicted != labels[left_out]
        counts[left_out] += 1
    known = counts > 0
    fractions = np.full(len(labels), errors[known].sum() / max(counts[known].sum(), 1))
    fractions[known] = errors[known] / counts[known]
    return fractions


def _left_out_predictions(bagging: BaggingClassifier, points: NDArray[np.float32]) -> Iterator[tuple[Labels, Labels]]:
    """Yield for each tree the positions of the examples that its sample lacks, and the classes that it predicts for them."""
    for tree, sample in zip(bagging.estimators_, bagging.estimators_samples_, strict=True):
        left_out = np.flatnonzero(np.bincount(sample, minlength=len(points)) == 0)
        if len(left_out):
            yield left_out, bagging.classes_[tree.predict(points[left_out]).astype(np.int64)]


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


CARDS: dict[str, Fidelity] = {
    "data_oob": Fidelity(
        formula="score = mean of [h_t(x) ≠ y] over the trees h_t whose bootstrap sample lacks the example",
        reference="https://github.com/ykwon0407/dataoob",
        commit="5375f8087763a4125fd99948cd6eec76148e801a",
        license="not stated",
        compared="values of 40 examples of 3 classes by the samples and predictions of 20 trees; in another test also the "
        "out-of-bag votes of scikit-learn's `BaggingClassifier` for 60 examples",
        difference="1.1e-16 in the scores",
        golden=("dataoob",),
        deviations=(
            Deviation(
                "each split tries all features; the trees of the authors' code try the root of their number",
                "the paper's definition, a bagged ensemble of any learners",
                "on the digits with 20 % of incorrect labels, three seeds and 100 trees, an AUROC of .9955 to .9959 instead of "
                ".9966 to .9990",
            ),
            Deviation(
                "100 trees by default; the authors grow 800",
                "an eighth of the time; `trees=800` is theirs",
                "on the same labels, an AUROC of .9955 to .9959 instead of .9974 to .9986",
            ),
            Deviation(
                "an example that all samples contain has the mean score of the others; the authors' code fails",
                "scores must be numbers",
                "an example with the probability .63ᵀ for T trees",
            ),
            Deviation(
                "labels that a majority of trees contradicts are flagged; the authors only rank",
                "a threshold is of use where scores are fractions",
                "none in the order",
            ),
        ),
    ),
    "fine": Fidelity(
        formula="score = -|<f, u_y>| / |f|,  u_y: the first singular vector of the features of label y",
        reference="https://github.com/Kthyeon/FINE_official",
        commit="d5ab341dec5356d5f9a2a8ebc3ba8e846188af61",
        license="not stated",
        compared="scores and selection by k-means of 60 features of 3 classes",
        difference="2e-6 in the scores; no selected example differs",
        golden=("fine",),
        deviations=(
            Deviation(
                "the two clusters of a label are the best division of all; the authors' k-means starts at random",
                "the result is the same in every call",
                "none in the frozen vectors",
            ),
        ),
    ),
    "mahalanobis": Fidelity(
        formula="score = d_y - min_k≠y d_k,  d_k = (f - μ_k)ᵀ Σ⁻¹ (f - μ_k)",
        reference="https://github.com/pokaxpoka/RoGNoisyLabel",
        commit="0cf223f25be6f2c7afe075aa120e01f56e73e470",
        license="not stated",
        compared="differences of distances by the authors' means and precision, and nearest classes, of 165 examples of 5 "
        "unequal classes",
        difference="2.7e-6 of 22 in the scores; no flag differs",
        golden=("mahalanobis",),
        deviations=(
            Deviation(
                "the distances of two classes are compared; the paper takes that of the nearest class",
                "labels are scored, not inputs",
                "another order",
            ),
            Deviation(
                "features are given, of one layer; the paper weighs several layers on validation examples",
                "a detector trains nothing",
                "depends on the features",
            ),
        ),
    ),
}
"""Fidelity cards by detector."""
