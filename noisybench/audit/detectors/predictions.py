"""Detectors that read predicted probabilities of the classes."""

from __future__ import annotations

import numpy as np

from noisybench.audit.confident_joint import TOLERANCE, class_thresholds
from noisybench.audit.detectors.result import SMALLEST, DetectorResult, Floats, Labels
from noisybench.audit.findings import posterior_score
from noisybench.audit.forward import fit_forward
from noisybench.audit.reliability import contradiction
from noisybench.config.fidelity import Deviation, Fidelity


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

    This is the confidence-weighted entropy of Northcutt, Jiang and Chuang (2021), up to its normalization. A probability
    below 1e-12 counts as 1e-12, in the entropy and in the quotient.

    Example:
        >>> entropy(labels=np.array([0, 1]), pred_probs=np.array([[0.5, 0.5], [1.0, 0.0]])).scores.round(1)
        array([ 2. , 39.9])
    """
    # Without the bound in the entropy, which falls faster than the probability of the label, the score would return to 0.
    probabilities = np.maximum(pred_probs, SMALLEST)
    normalized = -(probabilities * np.log(probabilities)).sum(1) / np.log(pred_probs.shape[1])
    return DetectorResult(normalized / probabilities[np.arange(len(labels)), labels])


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


CARDS: dict[str, Fidelity] = {
    "confident_joint": Fidelity(
        formula="flag where argmax over {k: p_k ≥ t_k} of p_k is not y,  t_k: mean of p_k over the examples of label k",
        reference="https://github.com/cleanlab/cleanlab",
        commit="2.9.0",
        license="Apache-2.0",
        compared="examples off the diagonal of `compute_confident_joint` and flags of `find_label_issues` with the filter "
        "`confident_learning`, of 240 examples of 3 classes and three times 600 of 10 classes",
        difference="no flag but those of the deviations",
        deviations=(
            Deviation(
                "a label is also flagged if its class is the most probable one, but below its threshold; the library's filter "
                "leaves such examples out",
                "the definition of the confident joint",
                "39 of 606 flags of the 10 classes, whose examples are not equally easy",
            ),
            Deviation(
                "the class is the most probable of those that reach their threshold; the library takes the most probable of "
                "all if two reach it",
                "equation 1 of the paper",
                "9 of the 1,800 examples of 10 classes, of which 2 are flagged by one of both",
            ),
        ),
    ),
    "el2n": Fidelity(
        formula="score = mean over networks of ‖p - e_y‖₂,  e_y: the one-hot label",
        reference="https://github.com/mansheej/data_diet",
        commit="aee462eab93aa0fb14c1ddfeba45d645b85a5fbb",
        license="Apache-2.0",
        compared="scores of 24 examples under a convolutional network with batch normalization",
        difference="1.1e-16 in the score",
        golden=("data_diet",),
        deviations=(
            Deviation(
                "predictions are given; the authors train networks for a few epochs and average their scores",
                "a detector trains nothing",
                "depends on the predictions",
            ),
        ),
    ),
    "entropy": Fidelity(
        formula="score = H(p) / (p_y log C),  H: entropy",
        reference="https://github.com/cleanlab/cleanlab",
        commit="2.9.0",
        license="Apache-2.0",
        compared="log(1 + s) / s of scores s with the library's quality by `confidence_weighted_entropy`, and the order, of "
        "240 examples of 3 classes",
        difference="1e-14 in the quality; no rank differs",
        deviations=(
            Deviation(
                "the score is the quotient; the library's quality is log(1 + s) / s of it",
                "a score that is higher for incorrect labels",
                "none in the order",
            ),
            Deviation(
                "probabilities below 1e-12 count as 1e-12 in the entropy and the quotient; the library bounds the quotient "
                "alone, by 1e-6",
                "the score grows as the probability of the label falls",
                "the quality of a label by the library is .19 at a probability of 1e-4, and .88 at 1e-8",
            ),
            Deviation(
                "a prediction of exactly 1 for the label has the lowest score; the library gives it the quality 0",
                "the limit of the quotient",
                "only predictions with an entropy of exactly 0",
            ),
        ),
    ),
    "margin": Fidelity(
        formula="score = max_k≠y p_k - p_y",
        reference="https://github.com/cleanlab/cleanlab",
        commit="2.9.0",
        license="Apache-2.0",
        compared="1 - 2q for the library's quality q by `normalized_margin`, and flags of `find_label_issues` with the filter "
        "`predicted_neq_given`, of 240 examples of 3 classes",
        difference="1.1e-16 in the score; no flag differs",
        deviations=(
            Deviation(
                "another class is ahead by any difference; by more than 1e-6 in the library",
                "the sign of the score decides",
                "only such ties",
            ),
        ),
    ),
    "posterior": Fidelity(
        formula="score = -log P(y) - log(p_y) / 2,  P(k) ∝ softmax(a log p + b)_k T_ky,  a, b, T: of the largest likelihood",
        reference="",
        commit="",
        compared="the score is one of noisybench, so that there is nothing to compare with; in a test, BFGS finds the largest "
        "likelihood of 300 labels of 3 classes, of which 20 % are incorrect, from another start. At three seeds, posteriors of "
        "labels differ by up to .022, .050 and .590, and 0, 0 and 4 flags: the fit ends when the noise rate changes by less than "
        "5e-4",
    ),
    "self_confidence": Fidelity(
        formula="score = 1 - p_y",
        reference="https://github.com/cleanlab/cleanlab",
        commit="2.9.0",
        license="Apache-2.0",
        compared="1 - q for the library's quality q by `self_confidence`, of 240 examples of 3 classes",
        difference="0 in the score",
    ),
}
"""Fidelity cards by detector."""
