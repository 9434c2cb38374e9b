"""Generalized cross-entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import LossFunction

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class GCE(LossFunction):
    """Interpolate between cross-entropy and mean absolute error (generalized cross-entropy).

    Examples whose label contradicts the network have a smaller gradient than with cross-entropy, so incorrect labels
    are memorized later (Zhang and Sabuncu 2018). In the limit q = 0 it is cross-entropy, for q = 1 mean absolute error.
    This is the loss L_q; the truncated variant of the paper, which alternates with pruning, is not included.
    """

    tasks = ("classification", "segmentation", "chain_of_thought")
    fidelity = Fidelity(
        formula="L = (1 - p_y^q) / q",
        reference="https://github.com/AlanChou/Truncated-Loss",
        commit="fef5908729a8e8446eb2d4ec327664cc6b11d6c6",
        license="not stated",
        compared="mean loss and gradient of 6 examples at 2, 10 and 100 classes and q of .1, .3, .7 and 1; the "
        "repository is not the authors', who published none",
        difference="5.4e-7 in the loss, 1.5e-8 in the gradient",
        golden=("gce",),
        deviations=(
            Deviation(
                "only the loss L_q; the repository also weights examples by whether their loss is below that of p = "
                "k, recomputed every few epochs",
                "a method of its own, which alternates with pruning",
                "all examples with p below k (.5) lose their gradient there",
            ),
        ),
    )

    q: float = parameter(
        0.7, gt=0, le=1, low=0.1, high=1.0, help="Exponent: cross-entropy near 0, mean absolute error at 1"
    )

    @property
    def requirements(self) -> Requirements:
        """Nothing; data-parallel training is supported."""
        return Requirements(distributed_state={})

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return L_q; for soft targets, its expectation over the target's class."""
        return generalized_cross_entropy(task.logits(batch.inputs), batch.targets, self.q)


def generalized_cross_entropy(logits: Tensor, targets: Tensor, q: float) -> Tensor:
    """Return (B,) values of sum_c t_c (1 - p_c^q) / q for (B, C) logits and target probabilities.

    >>> import torch
    >>> generalized_cross_entropy(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]), q=1.0)
    tensor([0.5000])
    """
    # From the logarithm, without ever forming p: a probability that rounds to zero would have no gradient, although it
    # belongs to the hardest examples. `expm1` is exact where p^q is close to one, that is for small q.
    log_probabilities = logits.float().log_softmax(1)
    return -(targets * (q * log_probabilities).expm1()).sum(1) / q
