"""Symmetric cross-entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch, cross_entropy, probabilities_in_float32
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import LossFunction

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class SCE(LossFunction):
    """Add reverse cross-entropy, with prediction and label exchanged, to cross-entropy (symmetric cross-entropy).

    The reverse term is bounded, because `log_zero` takes the place of log 0, so single incorrect labels have a limited
    influence (Wang et al. 2019). `alpha` and `beta` are by default those of the paper for CIFAR-10, 0.1 and 1; for
    CIFAR-100 it uses 6 and 0.1. `log_zero` is by default ln 1e-4, the value of the authors' code, with which published
    results of others were measured as well; the paper's text names -4.
    """

    tasks = ("classification", "segmentation", "chain_of_thought")
    fidelity = Fidelity(
        formula="L = alpha · CE(p, y) + beta · Σ_k≠y p_k · (-log_zero)",
        reference="https://github.com/YisenWang/symmetric_cross_entropy_for_noisy_labels",
        commit="ec778df4a15192f8ccee2efb0fce8b94b8e00262",
        license="not stated",
        compared="mean loss and gradient of 6 examples at 2 and 10 classes, two scales of logits and the weights of "
        "CIFAR-10 and CIFAR-100",
        difference="1.9e-6 in the loss (single precision), 1.2e-7 in the gradient",
        golden=("sce",),
        deviations=(
            Deviation(
                "the logarithm of zero is ln 1e-4 = -9.21, as in the authors' code; the text of the paper names -4",
                "the code gave the published numbers, and other repositories copied it",
                "loss 8.9 instead of 4.1 at 10 classes; `log_zero=-4` gives the latter",
            ),
            Deviation(
                "the authors clip probabilities at 1e-7, as Keras does; here the loss is exact",
                "exact losses and gradients of the hardest examples",
                "none for probabilities above 1e-7; theirs is at most 16.1 nats and has no gradient below",
            ),
        ),
    )

    alpha: float = parameter(0.1, ge=0, low=0.01, high=10.0, log=True, help="Weight of cross-entropy")
    beta: float = parameter(1.0, ge=0, low=0.1, high=10.0, log=True, help="Weight of reverse cross-entropy")
    log_zero: float = parameter(
        -9.210340371976182, lt=0, low=-10.0, high=-2.0, help="Value used for the logarithm of a zero target"
    )

    @property
    def requirements(self) -> Requirements:
        """Nothing; data-parallel training is supported."""
        return Requirements(distributed_state={})

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return the weighted sum of both terms."""
        logits = task.logits(batch.inputs)
        return self.alpha * cross_entropy(logits, batch) + self.beta * reverse_cross_entropy(
            logits, batch.targets, self.log_zero
        )


def reverse_cross_entropy(logits: Tensor, targets: Tensor, log_zero: float) -> Tensor:
    """Return (B,) values of -sum_c p_c log t_c for (B, C) logits, where log t is at least ``log_zero``.

    >>> import torch
    >>> reverse_cross_entropy(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]), log_zero=-4.0)
    tensor([2.])
    """
    # The logarithm of a zero target is minus infinity, which the clamp replaces before it can multiply a zero.
    return -(probabilities_in_float32(logits) * targets.log().clamp_min(log_zero)).sum(1)
