"""Generalised cross-entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch, probabilities_in_float32
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import LossFunction

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class GeneralisedCrossEntropy(LossFunction):
    """(1 - p_y**q) / q: cross-entropy for q near 0, mean absolute error for q = 1 (Zhang and Sabuncu 2018).

    The plain loss L_q; the paper's truncated variant, which alternates with pruning, is not part of it.
    """

    tasks = ("classification", "segmentation", "chain_of_thought")

    q: float = parameter(
        0.7, gt=0, le=1, low=0.1, high=1.0, help="near 0 like cross-entropy, 1 like mean absolute error"
    )

    @property
    def requirements(self) -> Requirements:
        """Data-parallel training is supported, without any state."""
        return Requirements(distributed_state={})

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """The loss L_q; for soft targets its expectation over the target's class."""
        return generalised_cross_entropy(task.logits(batch.inputs), batch.targets, self.q)


def generalised_cross_entropy(logits: Tensor, targets: Tensor, q: float) -> Tensor:
    """(B,) values of sum_c t_c (1 - p_c**q) / q for (B, C) logits and target probabilities."""
    # The slope of p**q is infinite at zero.
    probabilities = probabilities_in_float32(logits).clamp_min(1e-7)
    return (targets * (1 - probabilities**q)).sum(1) / q
