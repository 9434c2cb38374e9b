"""Detectors that read influences of examples, or scores of other packages."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noisybench.audit.detectors.result import DetectorResult, Floats, Labels


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
