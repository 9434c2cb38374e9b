"""Mean teacher."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch, cross_entropy, probabilities_in_float32
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import LossFunction, StepCallback

if TYPE_CHECKING:
    from noisybench.config.budget import Budget
    from noisybench.training.learner import Learner
    from noisybench.training.training_set import TrainingSet

TEACHER, STUDENT = range(2)
"""Numbers of the networks: the first one is deployed."""

NOISE, MAX_NOISE = 0.1, 0.2
"""Standard deviation and largest value of the noise that is added to the normalized images of the teacher."""


class MeanTeacher(LossFunction, StepCallback):
    """Train a student that also agrees with a teacher, the moving average of its weights (Tarvainen and Valpola 2017).

    The teacher averages over many steps, so that it memorizes single incorrect labels less. The consistency is the squared
    difference of the probabilities of student and teacher, whose images have noise; its weight rises in the shape of a
    sigmoid over the training. Only pixels count in it where the teacher is at least as sure as `min_confidence`. The
    teacher is deployed.
    """

    tasks = ("segmentation",)
    fidelity = Fidelity(
        formula="L = CE(p, y) + weight(t) · mean over classes of (p - q)²,  weight(t) = consistency_weight · exp(-5 (1 - t)²)",
        reference="https://github.com/HiLab-git/PyMIC",
        commit="8bcebd62ad4360d7dc5143907f56dd793dd5e304",
        license="Apache-2.0",
        compared="consistency and its gradient, its weight at 5 times, and the decay of the moving average in 5 epochs",
        difference="1.5e-8 in the consistency, 7.0e-10 in the gradient, 2.0e-8 in the decay (float32), 7.6e-19 in the weight",
        golden=("pymic_noisy_labels",),
        deviations=(
            Deviation(
                "the code is semi-supervised: the consistency is that of images without labels; here that of all images",
                "all images have labels, some of which are incorrect",
                "not measured",
            ),
            Deviation(
                "the code multiplies the teacher's weights by the decay, but discards the sum with the student's; here they are "
                "added",
                "the formula of the paper; the code calls `add` where `add_` is needed, so that its teacher shrinks to zero",
                "a teacher that agrees with the student instead of a constant one",
            ),
            Deviation(
                "the code deploys the student, here the teacher is deployed",
                "the choice of the paper",
                "not measured",
            ),
            Deviation(
                "weight and decay change from epoch to epoch; in the code from step to step",
                "one time for all schedules of methods",
                "the teacher is the student in the first epoch; the weight is that of the first step of each epoch",
            ),
            Deviation(
                "pixels count only above a confidence of the teacher if `min_confidence` is set; the code has no such rule",
                "a guard against noise that both have learned; 0 by default, which is the code",
                "none by default",
            ),
        ),
    )

    consistency_weight: float = parameter(
        0.1, ge=0, low=0.01, high=10.0, log=True, help="Final weight of the consistency of student and teacher"
    )
    decay: float = parameter(
        0.99, ge=0, lt=1, low=0.9, high=0.999, help="Largest decay of the moving average of weights"
    )
    min_confidence: float = parameter(
        0.0, ge=0, lt=1, help="Confidence of the teacher from which on a pixel counts in the consistency"
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return all pixels, and confident ones."""
        return {}, {"min_confidence": 0.6, "consistency_weight": 1.0}

    @property
    def requirements(self) -> Requirements:
        """A student and its moving average, of which the latter is deployed."""
        return Requirements(networks=2, deployed=1)

    def check(self, network: nn.Module, budget: Budget, examples: int) -> list[str]:
        """Check that there is an epoch in which the teacher differs from the student."""
        if budget.epochs > 1:
            return []
        return [
            "the teacher is the student in the first epoch, so one epoch is training without a teacher; set budget.epochs=2 "
            "or more"
        ]

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Let the teacher start as the student, without gradients."""
        task.networks[TEACHER].load_state_dict(task.networks[STUDENT].state_dict())
        task.networks[TEACHER].requires_grad_(False)

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return the cross-entropy of the student with the weighted consistency."""
        logits = task.logits(batch.inputs, STUDENT)
        with torch.no_grad():
            noise = torch.randn(batch.inputs.shape, generator=task.generator, device=task.device)
            noisy = batch.inputs + (NOISE * noise).clamp(-MAX_NOISE, MAX_NOISE)
            teacher = probabilities_in_float32(task.logits(noisy, TEACHER))
        difference = consistency(logits, teacher, self.min_confidence)
        weight = self.consistency_weight * ramp(task.current_epoch, task.budget.epochs)
        return cross_entropy(logits, batch) + weight * difference

    @torch.no_grad()
    def on_step_end(self, task: Learner) -> None:
        """Move the weights of the teacher to those of the student."""
        decay = average_decay(task.current_epoch, self.decay)
        # Batch statistics are not averaged: they are those of the teacher's own predictions.
        averages: list[Tensor] = list(task.networks[TEACHER].parameters())
        weights: list[Tensor] = list(task.networks[STUDENT].parameters())
        torch._foreach_lerp_(averages, weights, 1 - decay)


def consistency(logits: Tensor, teacher: Tensor, min_confidence: float = 0.0) -> Tensor:
    """Return the (B,) mean squared differences of student and teacher over the classes; 0 where the teacher is unsure.

    Args:
        logits: (B, C) scores of the student.
        teacher: (B, C) probabilities of the teacher.
        min_confidence: smallest probability of the teacher's class at which a pixel counts.

    Example:
        >>> consistency(torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [0.6, 0.4]]), min_confidence=0.7)
        tensor([0.2500, 0.0000])
    """
    differences = (probabilities_in_float32(logits) - teacher).square().mean(1)
    return differences * (teacher.amax(1) >= min_confidence)


def ramp(epoch: int, epochs: int) -> float:
    """Return the fraction of its final value that the weight has in an epoch, which rises as a sigmoid does.

    Example:
        >>> [round(ramp(epoch, 10), 4) for epoch in (0, 5, 10)]
        [0.0067, 0.2865, 1.0]
    """
    return math.exp(-5 * (1 - min(epoch / epochs, 1)) ** 2)


def average_decay(epoch: int, decay: float) -> float:
    """Return the decay of the moving average in an epoch, from 0: at first the teacher is the student.

    Example:
        >>> [round(average_decay(epoch, 0.99), 2) for epoch in (0, 1, 2, 500)]
        [0.0, 0.5, 0.67, 0.99]
    """
    return min(1 - 1 / (epoch + 1), decay)
