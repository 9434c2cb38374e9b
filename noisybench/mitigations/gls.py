"""Generalized label smoothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch, cross_entropy
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import LossFunction

if TYPE_CHECKING:
    from noisybench.config.budget import Budget
    from noisybench.training.learner import Learner


class GLS(LossFunction):
    """Smooth labels with a rate that may be negative (generalized label smoothing).

    A negative rate puts weight below zero on all other classes, which makes predictions more confident and is better than
    positive smoothing where many labels are incorrect (Wei et al. 2021). The loss has no lower bound then, so it follows on
    `warmup_epochs` of cross-entropy, and with them on a small learning rate in the paper.
    """

    tasks = ("classification", "segmentation", "chain_of_thought")
    fidelity = Fidelity(
        formula="L = CE(p, (1 - smoothing) · y + smoothing / C), smoothing < 1, also below 0",
        reference="https://github.com/UCSC-REAL/negative-label-smoothing",
        commit="05078f675b42c13c89219eb8f2238bd4d794d83d",
        license="not stated",
        compared="loss and gradient of 12 examples of 2, 10 and 100 classes at rates of .8, .2, 0, -.4, -1 and -8, and at the "
        "weights of the warm-up",
        difference="2.9e-6 in the loss at a rate of -8 (single precision), 9.3e-8 in the gradient",
        golden=("gls",),
        deviations=(
            Deviation(
                "the warm-up ends with its last weights; the authors go back to those with the best test accuracy",
                "no weights are selected on the test split",
                "the difference of best and last epoch of cross-entropy at a learning rate of 0.001",
            ),
        ),
    )

    smoothing: float = parameter(
        -0.2, lt=1, ge=-100, low=-4.0, high=0.8, help="Smoothing rate; negative rates make predictions more confident"
    )
    warmup_epochs: int = parameter(10, ge=0, low=0, high=30, help="Epochs of cross-entropy before labels are smoothed")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return a negative rate after a warm-up, and a positive one without."""
        return {"warmup_epochs": 1}, {"smoothing": 0.3, "warmup_epochs": 0}

    @property
    def requirements(self) -> Requirements:
        """Nothing; data-parallel training is supported."""
        return Requirements(distributed_state={})

    def check(self, network: nn.Module, budget: Budget, examples: int) -> list[str]:
        """Check that there is an epoch after the warm-up."""
        if self.warmup_epochs < budget.epochs:
            return []
        return [
            f"warmup_epochs={self.warmup_epochs} of {budget.epochs} epochs is cross-entropy only; set it to at most "
            f"{budget.epochs - 1}"
        ]

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return cross-entropy with smoothed labels after the warm-up."""
        if task.current_epoch >= self.warmup_epochs:
            batch = batch.with_targets(batch.targets * (1 - self.smoothing) + self.smoothing / batch.num_classes)
        return cross_entropy(task.logits(batch.inputs), batch)

    def explain_divergence(self) -> str:
        """Return the advice for a negative rate; none for others."""
        if self.smoothing >= 0:
            return ""
        return (
            f"gls with smoothing={self.smoothing:g} has no lower bound; use a rate closer to zero or more warmup_epochs"
        )
