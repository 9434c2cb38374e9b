"""Dice loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch, cross_entropy, probabilities_in_float32
from noisybench.training.roles import LossFunction

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class DiceLoss(LossFunction):
    """Add the soft Dice loss to cross-entropy.

    The Dice loss is one minus the soft Dice coefficient (Milletari et al. 2016), and the sum with cross-entropy is the
    usual loss for medical image segmentation. The coefficient is computed over all labeled pixels of a batch, and
    averaged over the classes that occur in its labels.
    """

    tasks = ("segmentation",)
    fidelity = Fidelity(
        formula="L = CE(p, y) + dice_weight · mean over classes of (1 - 2 · Σ p y / (Σ p + Σ y))",
        reference="https://github.com/qubvel-org/segmentation_models.pytorch",
        commit="0.6.0",
        license="MIT",
        compared="soft Dice loss and its gradient, with and without the background and pixels without a label",
        difference="6.0e-8 in the loss, 1.4e-9 in the gradient",
        golden=("dice_loss",),
        deviations=(
            Deviation(
                "the library averages over all classes, with a loss of 0 for one without a pixel in the batch; here the "
                "mean is over the classes that occur",
                "otherwise the weight of the others depends on how many classes a batch lacks",
                "a factor of C / (number of classes that occur)",
            ),
            Deviation(
                "Milletari et al. (2016) square the probabilities and labels in the denominator; here they are summed",
                "the form of most libraries; it equals the Dice coefficient of hard predictions",
                "0.33 instead of 0.20 for a pixel with probability 0.5 (the loss of a class with one pixel)",
            ),
        ),
    )

    dice_weight: float = parameter(1.0, ge=0, low=0.1, high=2.0, help="Weight of the Dice loss")
    background: bool = parameter(False, help="Count the background as a class")

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return nats per pixel, with the same Dice loss for all pixels."""
        logits = task.logits(batch.inputs)
        includes_all = self.background or not task.training_set.has_background
        return cross_entropy(logits, batch) + self.dice_weight * soft_dice_loss(logits, batch, includes_all)


def soft_dice_loss(logits: Tensor, batch: Batch, background: bool, weights: Tensor | None = None) -> Tensor:
    """Return one minus the mean soft Dice coefficient of the classes in a batch, in [0, 1]; 0 without any class.

    Args:
        logits: (B, C) scores of pixels.
        batch: batch with the targets of the pixels.
        background: count class 0.
        weights: (B,) weights of the pixels from 0; by default all pixels count equally.
    """
    probabilities, targets = probabilities_in_float32(logits), batch.targets.float()
    if batch.has_label is not None:
        probabilities, targets = probabilities * batch.has_label[:, None], targets * batch.has_label[:, None]
    # On one side of the product alone: a pixel counts once in the intersection, as it does in each sum.
    weighted = probabilities if weights is None else probabilities * weights[:, None]
    areas = targets.sum(0) if weights is None else (targets * weights[:, None]).sum(0)
    first_class = 0 if background else 1
    # Pooled over the batch: the coefficient of single images is undefined for classes that they lack.
    intersection = (weighted * targets).sum(0)[first_class:]
    total = (weighted.sum(0) + areas)[first_class:]
    present = areas[first_class:] > 0
    coefficients = 2 * intersection / total.clamp_min(1e-6)
    # A boolean index would have a size that only the device knows, and the host would wait for it.
    return torch.where(present, 1 - coefficients, torch.zeros_like(coefficients)).sum() / present.sum().clamp_min(1)
