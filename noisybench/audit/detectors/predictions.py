"""Detectors that read predicted probabilities of the classes."""

from __future__ import annotations

import numpy as np

from noisybench.audit.confident_joint import TOLERANCE, class_thresholds
from noisybench.audit.detectors.result import SMALLEST, DetectorResult, Floats, Labels
from noisybench.audit.findings import posterior_score
from noisybench.audit.forward import fit_forward
from noisybench.audit.reliability import contradiction


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
