"""Forward loss correction."""

from __future__ import annotations

from torch import Tensor

from noisybench.mitigations._transition import TransitionCorrection
from noisybench.training.batch import probabilities_in_float32


class ForwardCorrection(TransitionCorrection):
    """Forward loss correction by the transition matrix.

    Cross-entropy of the prediction multiplied by the transition matrix, -log (T^t p)_y (Patrini et al. 2017).
    `matrix=oracle` uses the matrix of the noise model, which is privileged information. `matrix=estimated` estimates it
    from the network itself after `warmup_epochs` of cross-entropy, and continues training that network. The paper
    trains a separate network for the estimate; a single network keeps the budget equal to that of other methods. By
    default, an estimate that cannot be right stops the run; `implausible=warn` uses it all the same.
    """

    def corrected_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return (B,) nats; for soft targets, the expectation over the observed class."""
        return forward_cross_entropy(logits, targets, self.state["matrix"])


def forward_cross_entropy(logits: Tensor, targets: Tensor, matrix: Tensor) -> Tensor:
    """Return (B,) values of -sum_k t_k log sum_c p_c T_ck for (B, C) logits and target probabilities.

    >>> import torch
    >>> forward_cross_entropy(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]), torch.eye(2))
    tensor([0.6931])
    """
    observed = probabilities_in_float32(logits) @ matrix
    # A matrix with zeros can give an observed class no probability at all.
    return -(targets * observed.clamp_min(1e-12).log()).sum(1)
