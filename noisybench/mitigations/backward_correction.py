"""Backward loss correction."""

from __future__ import annotations

import torch
from torch import Tensor

from noisybench.mitigations._transition import TransitionCorrection


class BackwardCorrection(TransitionCorrection):
    """Backward loss correction by the inverse transition matrix.

    Cross-entropies of all classes, weighted by the inverse matrix, (T^-1 l)_y (Patrini et al. 2017). The expectation
    over the noise is the clean loss, but single values have no lower bound, so a large network can drive the loss to
    minus infinity. The matrix is estimated or privileged as in `forward_correction`. If it has no inverse, because two
    classes look alike or one is never observed, the pseudo-inverse is used; the paper does not cover this case.
    """

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
    return (targets * (losses @ inverse_matrix.T)).sum(1)
