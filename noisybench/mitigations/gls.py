"""Generalized label smoothing."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from torch import Tensor

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.mitigations._warmup import LossAfterWarmup
from noisybench.training.batch import Batch, cross_entropy
from noisybench.training.mitigation import Requirements

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class GLS(LossAfterWarmup):
    """Smooth labels with a rate that may be negative (generalized label smoothing).

    A negative rate puts weight below zero on all other classes, which makes predictions more confident and is better than
    positive smoothing where many labels are incorrect (Wei et al. 2021). The loss has no lower bound then, so it follows on
    `warmup_epochs` of cross-entropy. In the paper, it begins with the best weights of the warm-up and a new optimizer with a
    small constant learning rate.
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
                "the best weights of the warm-up are those with the highest accuracy on noisy validation labels; the authors "
                "take the test accuracy",
                "no weights are selected on the test split",
                "the difference between two epochs of cross-entropy",
            ),
        ),
    )

    restart_settings = {
        "optimizer": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4, "lr_schedule": "constant",
    }  # fmt: skip

    smoothing: float = parameter(
        -0.2, lt=1, ge=-100, low=-4.0, high=0.8, help="Smoothing rate; negative rates make predictions more confident"
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return a negative rate after a warm-up, a positive one without, and a restart."""
        restart = {"warmup_epochs": 2, "continue_from": "best", "restart_learning_rate": 0.001}
        return {"warmup_epochs": 1}, {"smoothing": 0.3, "warmup_epochs": 0}, restart

    @property
    def requirements(self) -> Requirements:
        """Two phases if training restarts after the warm-up; data-parallel training is supported."""
        return dataclasses.replace(super().requirements, distributed_state={})

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
