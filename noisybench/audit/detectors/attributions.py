"""Detectors that read influences of examples, or scores of other packages."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noisybench.audit.detectors.result import DetectorResult, Floats, Labels
from noisybench.config.fidelity import Deviation, Fidelity


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


CARDS: dict[str, Fidelity] = {
    "self_influence": Fidelity(
        formula="score_i = A_ii,  A: influences of examples on the loss of each other",
        reference="https://github.com/TRAIS-Lab/dattri",
        commit="0.3.0",
        license="MIT",
        compared="the diagonal of `attribute` and `self_attribute` of its `TracInAttributor`, of 240 examples and 2 checkpoints "
        "of a linear classifier",
        difference="3.1e-5 of 106 between both",
        deviations=(
            Deviation(
                "influences are given; by default the library projects gradients at random",
                "a detector trains nothing",
                "self-influences differ by up to 11 % from those without a projection",
            ),
        ),
    ),
    "tracin": Fidelity(
        formula="score = mean over checkpoints of ‖p - e_y‖² ‖f‖²,  e_y: the one-hot label",
        reference="https://github.com/TRAIS-Lab/dattri",
        commit="0.3.0",
        license="MIT",
        compared="self-influences of 240 examples by its `TracInAttributor` without a projection, for 2 checkpoints of a linear "
        "classifier, whose bias is a column of ones in the features; also squared gradients of PyTorch. The authors' notebooks "
        "for ImageNet (frederick0329/TracIn, in TensorFlow) were not run",
        difference="7.4e-7 of each score",
        deviations=(
            Deviation(
                "checkpoints have equal weights; the paper weighs them by their learning rates",
                "rates are not given",
                "a factor if the rates are equal",
            ),
            Deviation(
                "influence through the last layer; the definition has all weights",
                "predictions and features are all that is read",
                "none for a classifier on a frozen backbone; otherwise not measured",
            ),
        ),
    ),
    "trust": Fidelity(
        formula="score = -trust score",
        reference="https://github.com/Orange-OpenSource/mislabeled",
        commit="f9bb4e149ce8ec95c6e86ce66ae6b3c307660f62",
        license="MIT",
        compared="the method that returns trust scores, and those of a small-loss detector for 60 examples of 3 classes",
        difference="0 in the scores",
        golden=("mislabeled",),
    ),
}
"""Fidelity cards by detector."""
