"""PENCIL: probabilistic end-to-end noise correction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch, cross_entropy
from noisybench.training.mitigation import Requirements
from noisybench.training.optimizers import OptimizerSettings
from noisybench.training.phases import Phase
from noisybench.training.roles import LossFunction
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.config.budget import Budget
    from noisybench.training.learner import Learner


class PENCIL(LossFunction):
    """Learn a distribution over the classes for each example together with the network (PENCIL).

    After `warmup_epochs` of cross-entropy, gradients change network and distributions, which begin at the observed labels;
    in the last phase the network learns the distributions as they are (Yi and Wu 2019). The best learning rate of the
    distributions depends on the noise rate, the batch size and the number of classes.
    """

    fidelity = Fidelity(
        formula="L = (KL(p ‖ d) + entropy_weight · H(p)) / C + compatibility_weight · CE(d, y),  d = softmax(ỹ), ỹ = label_init "
        "· y at first; CE applies a softmax to d again; L = CE(p, y) before, and KL(p ‖ d) / C at the end",
        reference="https://github.com/yikun2019/PENCIL",
        commit="8a89ed50b6ecd998439b09947b59412dccbca93f",
        license="not stated",
        compared="weights of a linear network and ỹ of 24 examples after epochs of all three parts",
        difference="3.0e-8 in the weights, 1.2e-5 in ỹ (single precision, at a learning rate of 600)",
        golden=("pencil",),
        deviations=(
            Deviation(
                "SGD begins the last phase without momentum from before; the authors keep it",
                "every phase begins with a new optimizer",
                "the first steps of the last phase",
            ),
            Deviation(
                "the learning rate of the last phase is divided by 10 after each third, as in the paper; in the authors' code an "
                "integer division makes it zero after the first third",
                "a fault of the code",
                "the network does not change in the last two thirds of their last phase",
            ),
        ),
    )

    warmup_epochs: int = parameter(
        8, ge=1, low=3, high=20, help="Epochs of cross-entropy before distributions are learned"
    )
    final_epochs: int = parameter(10, ge=1, low=3, high=15, help="Epochs of the last phase, with fixed distributions")
    final_learning_rate: float | None = parameter(
        None,
        gt=0,
        low=0.01,
        high=0.5,
        log=True,
        help="Learning rate at the start of the last phase; by default the budget's",
    )
    label_learning_rate: float = parameter(
        600.0, gt=0, low=10.0, high=10_000.0, log=True, help="Learning rate of the distributions (lambda)"
    )
    compatibility_weight: float = parameter(
        0.4, ge=0, low=0.0, high=1.0, help="Weight of the agreement of distributions with observed labels (alpha)"
    )
    entropy_weight: float = parameter(0.1, ge=0, low=0.0, high=1.0, help="Weight of the entropy of predictions (beta)")
    label_init: float = parameter(10.0, gt=0, low=2.0, high=20.0, help="Initial logit of the observed class (K)")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return one epoch of each part."""
        return ({"warmup_epochs": 1, "final_epochs": 1},)

    @property
    def requirements(self) -> Requirements:
        """Distributions of each example with an optimizer of their own, and a last phase with a schedule of its own."""
        settings: dict[str, Any] = {"lr_schedule": "constant"}
        if self.final_epochs >= 3:
            milestones = (self.final_epochs // 3, 2 * self.final_epochs // 3)
            settings = {"lr_schedule": "multistep", "lr_milestones": milestones, "lr_gamma": 0.1}
        if self.final_learning_rate is not None:
            settings["learning_rate"] = self.final_learning_rate
        return Requirements(
            per_sample_state=True,
            head_optimizers={"distributions": OptimizerSettings(self.label_learning_rate)},
            phases=(Phase(), Phase(self.final_epochs, settings=settings)),
            distributed_state={},
        )

    def check(self, network: nn.Module, budget: Budget, examples: int) -> list[str]:
        """Check that there is an epoch in which distributions are learned."""
        if self.warmup_epochs + self.final_epochs < budget.epochs:
            return []
        return [
            f"warmup_epochs={self.warmup_epochs} and final_epochs={self.final_epochs} leave no epoch of {budget.epochs} in which "
            "the distributions are learned; shorten them, or train longer"
        ]

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Add the distributions of all examples, which begin at the observed labels."""
        observed = functional.one_hot(training_set.targets, training_set.num_classes).float()
        task.add_head("distributions", lambda: _rows(self.label_init * observed))

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return the loss of the current part of training."""
        logits = task.logits(batch.inputs)
        if task.current_epoch < self.warmup_epochs:
            return cross_entropy(logits, batch)
        log_predicted = logits.float().log_softmax(1)
        predicted = log_predicted.exp()
        rows: Tensor = task.heads["distributions"](batch.index)
        if task.current_epoch >= task.budget.epochs - self.final_epochs:
            return (predicted * (log_predicted - rows.detach().log_softmax(1))).mean(1)
        divergence = (predicted * (log_predicted - rows.log_softmax(1))).mean(1)
        entropy = -(predicted * log_predicted).mean(1)
        compatibility = -(batch.targets * rows.softmax(1).log_softmax(1)).sum(1)
        return divergence + self.compatibility_weight * compatibility + self.entropy_weight * entropy

    def label_quality(self, task: Learner, training_set: TrainingSet) -> Tensor | None:
        """Return the probability of each observed label in its distribution, once distributions are learned."""
        if task.current_epoch < self.warmup_epochs:
            return None
        return self._distributions(task).gather(1, training_set.targets[:, None]).squeeze(1)

    def corrected_labels(self, task: Learner, training_set: TrainingSet) -> Tensor | None:
        """Return the most likely class of each distribution, once distributions are learned."""
        return None if task.current_epoch < self.warmup_epochs else self._distributions(task).argmax(1)

    @torch.no_grad()
    def _distributions(self, task: Learner) -> Tensor:
        return task.heads["distributions"].get_parameter("weight").softmax(1)


@torch.no_grad()
def _rows(values: Tensor) -> nn.Embedding:
    """Return parameters with (N, C) initial values, read by the positions of their rows."""
    rows = nn.Embedding(values.shape[0], values.shape[1], device=values.device)
    rows.weight.copy_(values)
    return rows
