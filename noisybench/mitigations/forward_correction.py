"""Forward loss correction."""

from __future__ import annotations

from torch import Tensor

from noisybench.mitigations._transition import TransitionCorrection
from noisybench.training.batch import probabilities_in_float32


class ForwardCorrection(TransitionCorrection):
    """Cross-entropy of the prediction pushed through the transition matrix: -log (T^t p)_y (Patrini et al. 2017).

    `matrix=given` uses the noise's own matrix, as declared knowledge. `matrix=estimated` estimates it from this very
    network after `warmup_epochs` of cross-entropy and goes on from there, where the paper trains a network to
    estimate with and then a second one from the start: so the budget stays that of one network.
    """

    def corrected(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(B,) nats; for soft targets the expectation over the observed class."""
        return forward_cross_entropy(logits, targets, self.state["matrix"])


def forward_cross_entropy(logits: Tensor, targets: Tensor, matrix: Tensor) -> Tensor:
    """(B,) values of -sum_k t_k log sum_c p_c T_ck for (B, C) logits and target probabilities."""
    observed = probabilities_in_float32(logits) @ matrix
    return -(targets * observed.clamp_min(1e-12).log()).sum(1)
