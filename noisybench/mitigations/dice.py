"""Dice and cross-entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch, cross_entropy, probabilities_in_float32
from noisybench.training.roles import LossFunction

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class DiceCrossEntropy(LossFunction):
    """Cross-entropy plus one minus the soft Dice coefficient (Milletari et al. 2016), the usual loss for medical masks.

    Dice is taken over all labelled pixels of a batch, and averaged over the classes that occur in its labels.
    """

    tasks = ("segmentation",)

    strength: float = parameter(1.0, ge=0, low=0.1, high=2.0, help="weight of the Dice term")
    background: bool = parameter(False, help="count the background among the classes")

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Nats per pixel, with the same Dice term for all."""
        logits = task.logits(batch.inputs)
        return cross_entropy(logits, batch) + self.strength * soft_dice_loss(logits, batch, self.background)


def soft_dice_loss(logits: Tensor, batch: Batch, background: bool) -> Tensor:
    """One minus the mean soft Dice coefficient of the classes in a batch, in [0, 1]; 0 where none but the background is.

    Args:
        logits: (B, C) of pixels.
        batch: with their targets.
        background: count class 0.
    """
    probabilities, targets = probabilities_in_float32(logits), batch.targets.float()
    if batch.has_label is not None:
        probabilities, targets = probabilities * batch.has_label[:, None], targets * batch.has_label[:, None]
    first = 0 if background else 1
    both = (probabilities * targets).sum(0)[first:]
    whole = (probabilities.sum(0) + targets.sum(0))[first:]
    present = targets.sum(0)[first:] > 0
    coefficients = 2 * both / whole.clamp_min(1e-6)
    return torch.where(present, 1 - coefficients, torch.zeros_like(coefficients)).sum() / present.sum().clamp_min(1)
