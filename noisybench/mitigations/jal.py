"""Joint asymmetric loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import LossFunction

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class JAL(LossFunction):
    """Add an asymmetric squared error to a normalized cross-entropy or focal loss (joint asymmetric loss).

    The normalized loss fits the label, and the squared error moves probability away from all other classes. Its target for
    the label is far above one, which keeps its minimum at the most frequent label of an input whatever the noise, as long as
    correct labels are the most frequent ones (Wang et al. 2025). With `focusing` = 0 the normalized loss is that of
    cross-entropy (JAL-CE), and with 0.5 the focal loss of the paper (JAL-FL). The defaults are those for CIFAR-10; for
    CIFAR-100 the authors use `alpha` = 5 and `asymmetry` = 20.
    """

    tasks = ("classification", "segmentation", "chain_of_thought")
    fidelity = Fidelity(
        formula="L = alpha · w_y (-ln p_y) / Σ_k w_k (-ln p_k) + beta · mean_k (p_k - asymmetry · 1[k = y])², w_k = (1 - "
        "p_k)^focusing without gradient",
        reference="https://github.com/cswjl/joint-asymmetric-loss",
        commit="0f9eb7b7730fecc319dee5cd53508a9ac26b570c",
        license="not stated",
        compared="loss and gradient of 8 examples of 10 and 100 classes with the settings for CIFAR-10, CIFAR-100, WebVision "
        "and Clothing1M, with both normalized losses",
        difference="1.5e-5 in a loss of 95 (single precision), 3.0e-8 in the gradient",
        golden=("jal",),
        deviations=(
            Deviation(
                "weight decay is that of the budget; the authors' code has an L1 penalty on all parameters for this loss",
                "regularization of the weights belongs to the budget",
                "not measured; the sum of all absolute parameters times 5e-5 (CIFAR-10) or 5e-6 (CIFAR-100) is left out",
            ),
        ),
    )

    alpha: float = parameter(1.0, ge=0, low=0.1, high=50.0, log=True, help="Weight of the normalized loss")
    beta: float = parameter(1.0, ge=0, low=0.1, high=10.0, log=True, help="Weight of the asymmetric squared error")
    asymmetry: float = parameter(
        30.0, ge=0, low=1.0, high=50.0, log=True, help="Target of the squared error for the label's class (a)"
    )
    focusing: float = parameter(
        0.0, ge=0, low=0.0, high=2.0, help="Exponent of the focal loss (gamma); 0 is cross-entropy"
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return both normalized losses."""
        return {}, {"focusing": 0.5}

    @property
    def requirements(self) -> Requirements:
        """Nothing; data-parallel training is supported."""
        return Requirements(distributed_state={})

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return the weighted sum of both terms; for soft targets, its expectation over the target's class."""
        logits, targets = task.logits(batch.inputs), batch.targets
        return self.alpha * normalized_focal_loss(
            logits, targets, self.focusing
        ) + self.beta * asymmetric_squared_error(logits, targets, self.asymmetry)


def normalized_focal_loss(logits: Tensor, targets: Tensor, focusing: float) -> Tensor:
    """Return the (B,) focal losses of (B, C) logits, divided by the sum of those of all classes.

    Args:
        logits: (B, C) scores.
        targets: (B, C) target probabilities.
        focusing: exponent of one minus the probability of a class, by which its cross-entropy is weighted; the weights have
            no gradient.

    >>> import torch
    >>> normalized_focal_loss(torch.zeros(1, 4), torch.eye(4)[:1], focusing=0.5)
    tensor([0.2500])
    """
    log_probabilities = logits.float().log_softmax(1)
    weights = (1 - log_probabilities.detach().exp()).pow(focusing)
    losses = -weights * log_probabilities
    return (targets * losses).sum(1) / losses.sum(1)


def asymmetric_squared_error(logits: Tensor, targets: Tensor, asymmetry: float) -> Tensor:
    """Return the (B,) mean squared differences of (B, C) probabilities and ``asymmetry`` times the one-hot label.

    For soft (B, C) targets it is the expectation over the target's class.

    >>> import torch
    >>> asymmetric_squared_error(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]), asymmetry=2.5)
    tensor([2.1250])
    """
    probabilities = logits.float().softmax(1)
    expected = probabilities.square() + targets * asymmetry * (asymmetry - 2 * probabilities)
    return expected.mean(1)
