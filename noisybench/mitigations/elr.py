"""Early-learning regularization."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from noisybench.config.fidelity import Fidelity
from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch, cross_entropy, probabilities_in_float32
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import LossFunction
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class ELR(LossFunction):
    """Pull predictions toward a running average of each sample's past predictions (early-learning regularization).

    The average remembers the classes that the network predicted before it memorizes incorrect labels, and outweighs
    those labels in the gradient (Liu et al. 2020). It starts at zero and has the momentum `beta`. Defaults are those of
    the paper for CIFAR-10; for CIFAR-100 it uses beta 0.9 and reg_weight 7.

    After `mixup`, the averages are updated with predictions of the examples before they are mixed, in a second forward
    pass without gradients, and the regularizer uses averages that are mixed as the examples are. ELR+ of the same paper
    mixes likewise, and takes these predictions from a moving average of a second network.
    """

    tasks = ("classification", "segmentation")
    fidelity = Fidelity(
        formula="L = CE(p, y) + reg_weight · log(1 - ⟨p, t⟩),  t ← beta · t + (1 - beta) · p",
        reference="https://github.com/shengliu66/ELR",
        commit="934af53434a336b6db80d05d7649d23216e8ca6d",
        license="MIT",
        compared="loss, gradient and running averages over 8 steps, at three settings and logits of scale 1 to 15; after mixup, "
        "the same of ELR+ over 6 steps",
        difference="3.8e-6 in the loss (single precision), 7.5e-9 in the gradient, 3.0e-8 in the averages",
        golden=("elr", "elr_mixup"),
    )

    beta: float = parameter(0.7, ge=0, lt=1, low=0.5, high=0.99, help="Momentum of the running average")
    reg_weight: float = parameter(3.0, ge=0, low=1.0, high=10.0, log=True, help="Weight of the regularizer (lambda)")

    @property
    def requirements(self) -> Requirements:
        """One running average per sample."""
        return Requirements(per_sample_state=True, follows_mixing=True, distributed_state={"targets": "gather"})

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Initialize the running averages with zero."""
        self.state["targets"] = torch.zeros(training_set.num_labels, training_set.num_classes)

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return cross-entropy plus the regularizer, and update the running averages of the batch."""
        logits = task.logits(batch.inputs)
        # As in the paper's code: bounded away from 0 and 1, so that the logarithm stays finite.
        probabilities = probabilities_in_float32(logits).clamp(1e-4, 1 - 1e-4)
        if batch.mixing is None:
            # Normalized again because clamping changes the sum; detached because the average is a constant target.
            prediction = probabilities.detach() / probabilities.detach().sum(1, keepdim=True)
        else:
            with torch.no_grad():
                prediction = probabilities_in_float32(task.logits(batch.mixing.inputs))
        before = self.state["targets"][batch.index]
        targets = before.lerp(prediction, 1 - self.beta)
        # A step that overflows in half precision is skipped by its gradient scaler, and must leave no trace here either.
        targets = torch.where(targets.isfinite(), targets, before)
        if batch.in_image is None:
            self.state["targets"][batch.index] = targets
        else:
            # Pixels that augmentation added around the image share an index with real pixels.
            self.state["targets"][batch.index[batch.in_image]] = targets[batch.in_image]
        if batch.mixing is not None:
            targets = batch.mixing.mix(targets)
        # <p, t> is at most 1 - 1e-4: no p is larger, and t sums to at most 1.
        return cross_entropy(logits, batch) + self.reg_weight * (1 - (probabilities * targets).sum(1)).log()

    def label_quality(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return the probability of the observed target in the running average."""
        targets = self.state["targets"]
        # The average starts at zero, so it sums to less than one until many predictions are in it.
        probabilities = targets / targets.sum(1, keepdim=True).clamp_min(1e-12)
        # Pixels without a label have an index beyond the classes, which `gather` does not accept.
        observed = training_set.targets.flatten().long().clamp_max(training_set.num_classes - 1)
        return probabilities.gather(1, observed[:, None]).view_as(training_set.targets)

    def corrected_labels(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return the most likely class of the running average."""
        return self.state["targets"].argmax(1).view_as(training_set.targets).to(training_set.targets.dtype)
