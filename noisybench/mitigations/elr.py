"""Early-learning regularisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch, cross_entropy, probabilities_in_float32
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import LossFunction
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class ELR(LossFunction):
    """Early-learning regularisation: predictions are held near their own running average (Liu et al. 2020).

    Cross-entropy + strength * log(1 - <p, t>), where t is a running average of each example's past predictions with
    momentum `beta`, from zero on. Defaults are the paper's for CIFAR-10; for CIFAR-100 it uses beta 0.9, strength 7.
    """

    tasks = ("classification", "segmentation")

    beta: float = parameter(0.7, ge=0, lt=1, low=0.5, high=0.99, help="momentum of the running average")
    strength: float = parameter(3.0, ge=0, low=1.0, high=10.0, log=True, help="weight of the regulariser (lambda)")

    @property
    def requirements(self) -> Requirements:
        """One running average per sample."""
        return Requirements(per_sample_state=True, distributed_state={"targets": "gather"})

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Running averages start at zero."""
        self.state["targets"] = torch.zeros(training_set.num_labels, training_set.num_classes)

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Cross-entropy and the regulariser; moves the batch's running averages."""
        logits = task.logits(batch.inputs)
        # As in the paper's code: bounded away from 0 and 1, so that the logarithm stays finite.
        probabilities = probabilities_in_float32(logits).clamp(1e-4, 1 - 1e-4)
        own = probabilities.detach() / probabilities.detach().sum(1, keepdim=True)
        targets = self.state["targets"][batch.index].lerp(own, 1 - self.beta)
        if batch.in_image is None:
            self.state["targets"][batch.index] = targets
        else:
            self.state["targets"][batch.index[batch.in_image]] = targets[batch.in_image]
        return cross_entropy(logits, batch) + self.strength * (1 - (probabilities * targets).sum(1)).log()

    def label_quality(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """The running average's probability of the observed target."""
        targets = self.state["targets"]
        share = targets / targets.sum(1, keepdim=True).clamp_min(1e-12)
        observed = training_set.targets.flatten().long().clamp_max(training_set.num_classes - 1)
        return share.gather(1, observed[:, None]).view_as(training_set.targets)

    def corrected_labels(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """The running average's most likely class."""
        return self.state["targets"].argmax(1).view_as(training_set.targets).to(training_set.targets.dtype)
