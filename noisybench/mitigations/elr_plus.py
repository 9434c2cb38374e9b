"""Early-learning regularization with two networks and moving averages of their weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.mitigations.mixup import draw_partners
from noisybench.training.batch import Batch, BatchPlan, probabilities_in_float32
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import EpochPlanner, LossFunction, StepCallback
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner

NETWORKS = 2
"""Number of trained networks; their moving averages have the numbers that follow."""


class ELRPlus(LossFunction, EpochPlanner, StepCallback):
    """Train two networks with mixup and `elr`, whose targets are predictions of each other's moving average (ELR+).

    A moving average of each network's weights follows its steps; its predictions of the examples before they are mixed
    update the running averages of the other network (Liu et al. 2020). The networks train one after the other in each
    epoch, each in an order of its own. The deployed prediction is the softmax of the mean score of both networks, without
    the moving averages, as in the authors' code.
    """

    fidelity = Fidelity(
        formula="L = CE(p', y') + reg_weight · log(1 - ⟨p', t'⟩),  t ← beta · t + (1 - beta) · p_average of the other network",
        reference="https://github.com/shengliu66/ELR",
        commit="934af53434a336b6db80d05d7649d23216e8ca6d",
        license="MIT",
        compared="weights and batch statistics of two networks and their moving averages, and running averages, after two "
        "epochs of three steps, at three settings",
        difference="4.8e-7 in weights and statistics, 2.3e-8 in running averages",
        golden=("elr_plus",),
        deviations=(
            Deviation(
                "within an epoch, the second network trains after the first on the schedule's later half, if the schedule "
                "changes with every step; the authors' code has one learning rate per epoch",
                "one optimizer step follows another in one schedule",
                "half of the change of the learning rate within an epoch; none with budget.lr_interval=epoch",
            ),
        ),
    )

    beta: float = parameter(0.7, ge=0, lt=1, low=0.5, high=0.99, help="Momentum of the running averages of predictions")
    reg_weight: float = parameter(3.0, ge=0, low=1.0, high=10.0, log=True, help="Weight of the regularizer (lambda)")
    reg_ramp_steps: int = parameter(
        0, ge=0, le=10**7, help="Number of steps of each network in which the weight of the regularizer rises"
    )
    alpha: float = parameter(
        1.0, gt=0, low=0.1, high=8.0, log=True, help="Both parameters of mixup's Beta distribution"
    )
    average_decay: float = parameter(
        0.997, ge=0, lt=1, low=0.9, high=0.999, help="Decay of the moving averages of weights"
    )
    average_ramp_steps: int = parameter(
        40_000, ge=0, le=10**7, help="Number of steps of each network in which that decay rises"
    )
    refine_targets: bool = parameter(
        False, help="Multiply mixed targets by the running averages, as for CIFAR-100 in the authors' code"
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return the settings for CIFAR-10, and those for CIFAR-100 with short ramps."""
        return {}, {"refine_targets": True, "reg_ramp_steps": 5, "average_ramp_steps": 5}

    @property
    def requirements(self) -> Requirements:
        """Two networks that are deployed together, and a moving average of each."""
        return Requirements(
            networks=2 * NETWORKS,
            deployed=NETWORKS,
            ensemble="logits",
            per_sample_state=True,
            mixes_samples=True,
        )

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Initialize the running averages of predictions with zero; no gradient trains moving averages of weights."""
        self.state["targets"] = torch.zeros(NETWORKS, len(training_set), training_set.num_classes)
        task.networks[NETWORKS:].requires_grad_(False)
        self._network, self._steps = 0, [0, 0]

    def plan_epoch(self, task: Learner) -> list[BatchPlan]:
        """Return all batches of the first network, then those of the second, each in an order of its own."""
        self._steps = [task.current_epoch * task.sampler.steps_per_epoch] * NETWORKS
        return [
            step for network in range(NETWORKS) for step in task.sampler.plan(task.current_epoch, network, NETWORKS)
        ]

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return the regularized cross-entropy of mixed examples, and update the running averages of predictions."""
        network = self._network = batch.phase
        self._steps[network] += 1
        weight, partner = draw_partners(self.alpha, batch.index, task.rng, task.generator)
        mixed = batch.mixed(partner, max(weight, 1 - weight))
        assert mixed.mixing is not None
        logits = task.logits(mixed.inputs, network).float()
        with torch.no_grad():
            prediction = probabilities_in_float32(task.logits(batch.inputs, 2 * NETWORKS - 1 - network))
        before = self.state["targets"][network, batch.index]
        running = before.lerp(prediction, 1 - self.beta)
        # A step that overflows in half precision is skipped by its gradient scaler, and must leave no trace here either.
        running = torch.where(running.isfinite(), running, before)
        self.state["targets"][network, batch.index] = running
        targets, labels = mixed.mixing.mix(running), mixed.targets.float()
        if self.refine_targets:
            labels = labels * targets
            labels = labels / labels.sum(1, keepdim=True).clamp_min(1e-12)
        probabilities = logits.softmax(1).clamp(1e-4, 1 - 1e-4)
        reg_weight = self.reg_weight * _ramp(self._steps[network], self.reg_ramp_steps)
        regularizer = (1 - (probabilities * targets).sum(1)).log()
        return -(labels * logits.log_softmax(1)).sum(1) + reg_weight * regularizer

    @torch.no_grad()
    def on_step_end(self, task: Learner) -> None:
        """Move the average of the network that has been trained."""
        decay = self.average_decay * _ramp(self._steps[self._network] + 1, self.average_ramp_steps)
        # Batch statistics are not averaged: they are those of the average's own predictions.
        averages: list[Tensor] = list(task.networks[NETWORKS + self._network].parameters())
        weights: list[Tensor] = list(task.networks[self._network].parameters())
        torch._foreach_mul_(averages, decay)
        torch._foreach_add_(averages, weights, alpha=1 - decay)

    def on_epoch_end(self, task: Learner) -> None:
        """Report in the last epoch whether the ramp was too long to reach the decay of the moving averages."""
        reached = _ramp(self._steps[0] + 1, self.average_ramp_steps)
        if task.current_epoch == task.budget.epochs - 1 and reached < 1:
            self.warnings.append(
                f"the decay of the moving averages reached {self.average_decay * reached:.2g} instead of "
                f"{self.average_decay:g}, because its ramp takes {self.average_ramp_steps} steps; lower average_ramp_steps"
            )

    def label_quality(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return the probability of the observed target in the mean of the running averages."""
        targets = self.state["targets"].mean(0)
        probabilities = targets / targets.sum(1, keepdim=True).clamp_min(1e-12)
        return probabilities.gather(1, training_set.targets[:, None]).squeeze(1)

    def corrected_labels(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return the most likely class of the running averages."""
        return self.state["targets"].mean(0).argmax(1)


def _ramp(step: int, length: int) -> float:
    """Return the fraction of its final value that a quantity has at a step, which rises as a sigmoid does.

    >>> [round(_ramp(step, 10), 4) for step in (0, 5, 10, 20)]
    [0.0067, 0.2865, 1.0, 1.0]
    """
    return math.exp(-5 * (1 - min(step, length) / length) ** 2) if length else 1.0
