"""Noise-robust Dice loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch, probabilities_in_float32
from noisybench.training.roles import LossFunction

if TYPE_CHECKING:
    from noisybench.training.learner import Learner

EPSILON = 1e-5
"""Added to the denominator, as in the reference; without any object it keeps the loss finite."""


class NoiseRobustDice(LossFunction):
    """Minimize a Dice loss with an exponent that makes large errors count less (noise-robust Dice loss).

    The loss lies between the Dice loss with squares (gamma = 2) and a mean absolute error (gamma = 1), which is robust to
    label noise but learns slowly (Wang et al. 2020). Errors and areas are summed over all labeled pixels of a batch, and
    the quotient is averaged over the classes; with squares in the denominator, over those that occur in the batch. Nothing is
    added to it: the authors train with this loss alone.
    """

    tasks = ("segmentation",)
    fidelity = Fidelity(
        formula="L = mean over classes of Σ |p - y|^gamma / (Σ p² + Σ y² + 1e-5)",
        reference="https://github.com/HiLab-git/PyMIC",
        commit="8bcebd62ad4360d7dc5143907f56dd793dd5e304",
        license="Apache-2.0",
        compared="loss and gradient with denominator=sum and the background, at two values of gamma",
        difference="0 in the loss, 9.2e-10 in the gradient",
        golden=("pymic_dice",),
        deviations=(
            Deviation(
                "the authors' code divides by Σ p + Σ y; here by Σ p² + Σ y² unless denominator=sum",
                "the form of the paper, which is the Dice loss for gamma = 2",
                "0.67 instead of 0.55 for the objects of the frozen vectors",
            ),
            Deviation(
                "with squares in the denominator, a class without any label in the batch is left out",
                "its quotient grows as its probability falls, so that it would be predicted everywhere",
                "none for batches in which all classes occur",
            ),
            Deviation(
                "the authors' code averages over all classes; here over those of objects unless background=true",
                "the background is no object, and the paper has one foreground class",
                "a setting",
            ),
        ),
    )

    gamma: float = parameter(1.5, ge=1, le=2, low=1.0, high=2.0, help="Exponent of the errors")
    denominator: Literal["squares", "sum"] = parameter(
        "squares", help="Areas in the denominator: of squared probabilities (paper) or of probabilities (authors' code)"
    )
    background: bool = parameter(False, help="Count the background as a class")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return both denominators."""
        return {}, {"denominator": "sum", "background": True}

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return the same loss for all pixels of a batch."""
        includes_all = self.background or not task.training_set.has_background
        value = noise_robust_dice_loss(
            task.logits(batch.inputs), batch, includes_all, self.gamma, squares=self.denominator == "squares"
        )
        return value.expand(len(batch.observed))


def noise_robust_dice_loss(logits: Tensor, batch: Batch, background: bool, gamma: float, squares: bool) -> Tensor:
    """Return the mean noise-robust Dice loss of the classes, from 0.

    Args:
        logits: (B, C) scores of pixels.
        batch: batch with the targets of the pixels.
        background: count class 0.
        gamma: exponent of the errors, in [1, 2].
        squares: sum the squares of probabilities and targets in the denominator.

    Example:
        >>> batch = Batch({"weak": torch.zeros(1, 1)}, torch.tensor([1]), torch.tensor([0]), num_classes=2)
        >>> noise_robust_dice_loss(torch.zeros(1, 2), batch, background=False, gamma=2.0, squares=True)
        tensor(0.2000)
    """
    first_class = 0 if background else 1
    probabilities, targets = probabilities_in_float32(logits)[:, first_class:], batch.targets.float()[:, first_class:]
    if batch.has_label is not None:
        probabilities, targets = probabilities * batch.has_label[:, None], targets * batch.has_label[:, None]
    errors = (probabilities - targets).abs().pow(gamma).sum(0)
    areas = (probabilities.square() + targets.square() if squares else probabilities + targets).sum(0)
    quotients = errors / (areas + EPSILON)
    if not squares:
        return quotients.mean()
    # Without any label, squares vanish faster than errors do, and the quotient would push the class's probability up.
    present = targets.sum(0) > 0
    return torch.where(present, quotients, torch.zeros_like(quotients)).sum() / present.sum().clamp_min(1)
