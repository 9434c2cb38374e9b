"""Backward loss correction."""

from __future__ import annotations

import torch
from torch import Tensor

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.mitigations._transition import TransitionCorrection


class BackwardCorrection(TransitionCorrection):
    """Correct the loss by the inverse of the transition matrix (backward correction).

    The cross-entropies of all classes are weighted by the inverse matrix T, so that their expectation over the noise is
    the loss on clean labels (Patrini et al. 2017). Single values have no lower bound, so a large network can drive the
    loss to minus infinity. The matrix is estimated or privileged as in `forward_correction`. If it has no inverse,
    because two classes look alike or one is never observed, the pseudo-inverse is used; the paper does not cover this
    case.
    """

    fidelity = Fidelity(
        formula="L = (T⁻¹ l)_y,  l_k = -log p_k",
        reference="https://github.com/giorgiop/loss-correction",
        commit="15a79de3c67c31907733392085c333547c2f2b16",
        license="not stated",
        compared="loss and gradient of 6 examples at 2 and 10 classes and two scales of logits; matrices estimated "
        "from 200 predictions at percentiles 97 and 100",
        difference="3.8e-6 in the loss, 2.4e-7 in the gradient (single precision), 2.2e-16 in the matrix",
        golden=("loss_correction",),
        deviations=(
            Deviation(
                "one network is trained with cross-entropy, estimates the matrix after `warmup_epochs` and continues "
                "with the corrected loss; the authors train a first network to the end and a second one from new "
                "weights",
                "equal budgets of methods",
                "the estimate and with it the accuracy: on blobs of 100 classes at 40 % noise forward correction "
                "reaches .917 with the estimate and .980 with the true matrix",
            ),
            Deviation(
                "by default the percentile of anchor points depends on each class's size; the authors use 97 for data "
                "sets of at most 10 classes and 100 for CIFAR-100",
                "at 97, classes below 3 % of the data get rows of others",
                "at 100 classes and with a perfect network, rows within .05: 100 of 100 instead of 0 of 100; equal "
                "for 10 predicted classes of equal size",
            ),
            Deviation(
                "a given percentile is the nearest rank; the authors take the largest probability below the percentile",
                "one definition for all percentiles",
                "at most one rank: none if 97 % of N - 1 has a fraction below one half",
            ),
            Deviation(
                "predictions are left as they are; the authors' code sets the probabilities above the percentile to "
                "zero in place, which later rows read",
                "a fault of the code",
                "none in the frozen vectors; in theirs an entry of an anchor point that is among the highest of an "
                "earlier class becomes 0",
            ),
            Deviation(
                "an implausible estimate stops the run unless `implausible=warn`, and a class that is never observed "
                "has a row of the identity",
                "such matrices give results near chance",
                "none for plausible estimates of observed classes",
            ),
            Deviation(
                "the authors clip probabilities at 1e-7, as Keras does; here the loss is exact",
                "exact losses and gradients of the hardest examples",
                "none for probabilities above 1e-7; theirs is at most 16.1 nats and has no gradient below",
            ),
            Deviation(
                "a pseudo-inverse without singular values below a thousandth of the largest; the authors invert",
                "a matrix may have no inverse",
                "none if no singular value is that small",
            ),
        ),
    )

    def corrected_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return (B,) nats; for soft targets, the expectation over the observed class."""
        if "inverse" not in self.state:
            # Singular values below a thousandth of the largest are noise that the inverse would amplify.
            self.state["inverse"] = torch.linalg.pinv(self.state["matrix"].double(), rtol=1e-3).float()
        return backward_cross_entropy(logits, targets, self.state["inverse"])

    def explain_divergence(self) -> str:
        """Return how far the inverse matrix amplifies losses, once they are corrected."""
        # The forward correction adds no reason: its loss is a cross-entropy, with a gradient no larger than the plain one.
        if "inverse" not in self.state:
            return ""
        amplification = float(self.state["inverse"].abs().sum(1).max())
        advice = "" if self.matrix == "oracle" else ", matrix=oracle or a longer warm-up (warmup_epochs)"
        return (
            f"the loss of backward_correction has no lower bound, and its inverse matrix amplifies losses up to "
            f"{amplification:.2g} times: use forward_correction{advice}"
        )


def backward_cross_entropy(logits: Tensor, targets: Tensor, inverse_matrix: Tensor) -> Tensor:
    """Return (B,) values of sum_k t_k sum_c (T^-1)_kc (-log p_c) for (B, C) logits and target probabilities.

    >>> backward_cross_entropy(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]), torch.eye(2))
    tensor([0.6931])
    """
    losses = -logits.float().log_softmax(1)
    # Under autocast, the product would have the 8 significant bits of bfloat16, although large terms cancel in it.
    with torch.autocast(logits.device.type, enabled=False):
        corrected = losses @ inverse_matrix.T
    return (targets * corrected).sum(1)
