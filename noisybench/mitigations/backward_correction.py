"""Backward loss correction."""

from __future__ import annotations

import torch
from torch import Tensor

from noisybench.mitigations._transition import TransitionCorrection


class BackwardCorrection(TransitionCorrection):
    """Cross-entropies of all classes weighted by the inverse matrix: (T^-1 l)_y (Patrini et al. 2017).

    Its expectation over the noise is the clean loss, but single values are unbounded below, so that a large network
    can drive it to minus infinity. The matrix is given or estimated as in `forward_correction`. Where it has no
    inverse (two classes look alike, or one is never observed) the pseudo-inverse takes its place; the paper leaves
    that case open.
    """

    def corrected(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(B,) nats; for soft targets the expectation over the observed class."""
        if "inverse" not in self.state:
            # Singular values below a thousandth of the greatest are noise that the inverse would blow up.
            self.state["inverse"] = torch.linalg.pinv(self.state["matrix"].double(), rtol=1e-3).float()
        return backward_cross_entropy(logits, targets, self.state["inverse"])


def backward_cross_entropy(logits: Tensor, targets: Tensor, inverse_matrix: Tensor) -> Tensor:
    """(B,) values of sum_k t_k sum_c (T^-1)_kc (-log p_c) for (B, C) logits and target probabilities."""
    losses = -logits.float().log_softmax(1)
    return (targets * (losses @ inverse_matrix.T)).sum(1)
