"""Sparse over-parameterization of label noise, as SOP and SOP+ have it in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch, probabilities_in_float32
from noisybench.training.mitigation import Requirements
from noisybench.training.optimizers import OptimizerSettings
from noisybench.training.roles import LossFunction
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner

SMALLEST = 1e-4
"""Lower bound of corrected probabilities."""


class SparseNoise(LossFunction):
    """Base class of losses that learn the noise of each label next to the network.

    The noise of label y is u² at class y and -v² at the others: one number u per example, and C numbers v.
    """

    lr_u: float = parameter(
        10.0, gt=0, low=0.1, high=100.0, log=True, help="Learning rate of u, the noise at the observed class"
    )
    lr_v: float = parameter(
        10.0, gt=0, low=0.1, high=100.0, log=True, help="Learning rate of v, the noise at the other classes"
    )
    init_std: float = parameter(
        1e-8, gt=0, low=1e-9, high=1e-3, log=True, help="Standard deviation of the initial u and v"
    )

    @property
    def requirements(self) -> Requirements:
        """Parameters of each example with constant learning rates, without momentum and weight decay."""
        return Requirements(
            per_sample_state=True,
            head_optimizers={"noise_u": OptimizerSettings(self.lr_u), "noise_v": OptimizerSettings(self.lr_v)},
            distributed_state={},
        )

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Add the parameters of each example, with normally distributed initial values."""
        count = len(training_set)
        task.add_head("noise_u", lambda: _rows(count, 1, self.init_std))
        task.add_head("noise_v", lambda: _rows(count, training_set.num_classes, self.init_std))

    def noise(self, task: Learner, index: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (B, C) noise at the observed classes and at the others, both in [0, 1].

        Args:
            task: learner with the parameters.
            index: (B,) positions in the training set.
            targets: (B, C) observed targets.
        """
        added = task.heads["noise_u"](index).square() * targets
        removed = task.heads["noise_v"](index).square() * (1 - targets)
        return added.clamp(0, 1), removed.clamp(0, 1)

    def separate(self, task: Learner, batch: Batch, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (B,) loss of logits with the noise of their labels, and the (B, C) corrected probabilities."""
        targets = batch.targets.float()
        added, removed = self.noise(task, batch.index, targets)
        # The other classes' noise follows the squared error alone: with the logarithm, it would grow for clean labels too.
        corrected = (probabilities_in_float32(logits) + added - removed.detach()).clamp_min(SMALLEST)
        corrected = functional.normalize(corrected, p=1, eps=SMALLEST).clamp(SMALLEST, 1)
        predicted = functional.one_hot(logits.detach().argmax(1), logits.shape[1])
        error = (predicted + added - removed - targets).square().sum(1)
        return -(targets * corrected.log()).sum(1) + error, corrected

    def label_quality(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return 1 - u², the part of each observed label that is not its noise."""
        with torch.no_grad():
            return 1 - task.heads["noise_u"].get_parameter("weight").square().clamp(0, 1).squeeze(1)

    def corrected_labels(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return the most likely class of the observed label without its noise."""
        with torch.no_grad():
            index = torch.arange(len(training_set), device=training_set.targets.device)
            targets = functional.one_hot(training_set.targets, training_set.num_classes).float()
            added, removed = self.noise(task, index, targets)
            return (targets - added + removed).argmax(1)


def _rows(count: int, width: int, std: float) -> nn.Embedding:
    """Return (count, width) parameters, read by the positions of their rows."""
    rows = nn.Embedding(count, width)
    nn.init.normal_(rows.weight, std=std)
    return rows
