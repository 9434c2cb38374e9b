"""Transition matrix of minimal volume, trained with the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.mitigations._transition import clean_posterior
from noisybench.mitigations.forward_correction import forward_cross_entropy
from noisybench.training.batch import Batch
from noisybench.training.mitigation import Requirements
from noisybench.training.optimizers import OptimizerSettings
from noisybench.training.roles import LossFunction
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class VolMinNet(LossFunction):
    """Learn a transition matrix of minimal volume together with the network (VolMinNet).

    The matrix turns predictions of clean classes into those of observed ones, as in `forward_correction`; among all
    matrices that explain the labels, the volume selects the one whose clean classes are most certain (Li et al. 2021). It
    needs neither an estimate before training nor anchor points. The matrix has an optimizer of its own without weight
    decay, whose learning rate follows the budget's schedule.
    """

    fidelity = Fidelity(
        formula="L = -log (Tᵀ p)_y + volume_weight · log |det T|,  T = normalize rows of (I + sigmoid(w) off the diagonal)",
        reference="https://github.com/xuefeng-li1/Provably-end-to-end-label-noise-learning-without-anchor-points",
        commit="06e4167e054c953a4fdf013b8db9ff420d3cdae5",
        license="not stated",
        compared="weights of a network and the matrix after 6 steps with both optimizers, at three settings",
        difference="none",
        golden=("volminnet",),
        deviations=(
            Deviation(
                "probabilities of observed classes are clipped at 1e-12; the authors' code does not clip them",
                "the logarithm stays finite",
                "none for probabilities above 1e-12",
            ),
        ),
    )

    volume_weight: float = parameter(
        1e-4, ge=0, low=1e-5, high=1e-2, log=True, help="Weight of the logarithm of the volume (lambda)"
    )
    init: float = parameter(
        2.0,
        low=0.0,
        high=6.0,
        help="Negative logit of the initial entries off the diagonal, before rows are normalized",
    )
    learning_rate: float = parameter(
        0.01, gt=0, low=1e-3, high=0.1, log=True, help="Initial learning rate of the transition matrix"
    )
    optimizer: Literal["sgd", "adam"] = parameter(
        "sgd", help="Optimizer of the transition matrix; SGD has momentum 0.9"
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return both optimizers."""
        return {}, {"optimizer": "adam"}

    @property
    def requirements(self) -> Requirements:
        """A transition matrix with an optimizer of its own."""
        momentum = 0.9 if self.optimizer == "sgd" else 0.0
        settings = OptimizerSettings(self.learning_rate, self.optimizer, momentum, follows_schedule=True)
        return Requirements(head_optimizers={"transition": settings}, distributed_state={})

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Add the transition matrix."""
        task.add_head("transition", lambda: _TransitionMatrix(training_set.num_classes, self.init))

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return the corrected cross-entropy plus the weighted logarithm of the volume, which all samples share."""
        matrix = task.heads["transition"]()
        corrected = forward_cross_entropy(task.logits(batch.inputs), batch.targets, matrix)
        log_volume: Tensor = torch.linalg.slogdet(matrix).logabsdet
        return corrected + self.volume_weight * log_volume

    def on_epoch_end(self, task: Learner) -> None:
        """Record the mean of the matrix's diagonal, the probability that a label is correct."""
        with torch.no_grad():
            self.diagnostics["transition_diagonal"] = float(task.heads["transition"]().diagonal().mean())

    def label_quality(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return the posterior probability that the clean class is the observed one."""
        return self._posterior(task, training_set).gather(1, training_set.targets[:, None]).squeeze(1)

    def corrected_labels(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return the most likely clean class given the prediction and the observed class."""
        return self._posterior(task, training_set).argmax(1)

    @torch.no_grad()
    def _posterior(self, task: Learner, training_set: TrainingSet) -> Tensor:
        return clean_posterior(task.training_probabilities(), task.heads["transition"](), training_set.targets)


class _TransitionMatrix(nn.Module):
    """Learned (C, C) transition matrix whose diagonal is the largest entry of each row."""

    def __init__(self, num_classes: int, init: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.full((num_classes, num_classes), -init))
        self.register_buffer("identity", torch.eye(num_classes), persistent=False)

    def forward(self) -> Tensor:
        """Return the matrix; row c has the probabilities of the observed classes of clean class c."""
        identity: Tensor = self.get_buffer("identity")
        return functional.normalize(identity + self.logits.sigmoid() * (1 - identity), p=1, dim=1)
