"""Bootstrapping."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import LossFunction

if TYPE_CHECKING:
    from noisybench.training.learner import Learner

PAPER = {"soft": 0.95, "hard": 0.8}


class Bootstrapping(LossFunction):
    """Targets mixed with the network's own prediction (Reed et al. 2015).

    `soft` mixes in the predicted probabilities, through which the gradient flows; `hard` the predicted class.
    """

    tasks = ("classification", "segmentation", "chain_of_thought")

    mode: Literal["soft", "hard"] = parameter("hard", help="mix in the probabilities, or the most likely class")
    beta: float | None = parameter(
        None,
        ge=0,
        le=1,
        low=0.5,
        high=0.99,
        help="share of the observed target; by default 0.95 soft, 0.8 hard",
    )

    @property
    def requirements(self) -> Requirements:
        """Data-parallel training is supported, without any state."""
        return Requirements(distributed_state={})

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Both modes."""
        return {"mode": "soft"}, {"mode": "hard"}

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Cross-entropy against the mixed targets."""
        return bootstrapped_cross_entropy(task.logits(batch.inputs), batch.targets, self.mode, self.share)

    @property
    def share(self) -> float:
        """Share of the observed target."""
        return PAPER[self.mode] if self.beta is None else self.beta


def bootstrapped_cross_entropy(logits: Tensor, targets: Tensor, mode: str, beta: float) -> Tensor:
    """(B,) nats of (B, C) logits against beta * targets + (1 - beta) * own prediction."""
    logits = logits.float()
    own = (
        logits.softmax(1) if mode == "soft" else functional.one_hot(logits.argmax(1), logits.shape[1]).to(logits.dtype)
    )
    mixed = torch.lerp(own, targets.to(logits.dtype), beta)
    return -(mixed * logits.log_softmax(1)).sum(1)
