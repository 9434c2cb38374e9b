"""Mixup."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from noisybench.config.fidelity import Fidelity
from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch
from noisybench.training.mitigation import BatchLoss, Requirements
from noisybench.training.roles import LossWrapper

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class Mixup(LossWrapper):
    """Train on convex combinations of pairs of examples and of their targets (mixup).

    One weight is drawn per batch, and a random partner for each example (Zhang et al. 2018).
    """

    fidelity = Fidelity(
        formula="x' = w · x_i + (1 - w) · x_j,  y' = w · y_i + (1 - w) · y_j,  w ~ Beta(alpha, alpha)",
        reference="https://github.com/facebookresearch/mixup-cifar10",
        commit="eaff31ab397a90fbc0a4aac71fb5311144b3608b",
        license="CC-BY-NC-4.0",
        compared="mixed inputs and mean loss of 12 examples from the same weight and partners, for alpha of .2, 1 and "
        "8",
        difference="1.5e-7 in the inputs, 1e-6 in the loss",
        golden=("mixup",),
    )

    alpha: float = parameter(1.0, gt=0, low=0.1, high=8.0, log=True, help="Both parameters of the Beta distribution")

    @property
    def requirements(self) -> Requirements:
        """The samples of a batch are mixed."""
        return Requirements(mixes_samples=True)

    def wrap_loss(self, task: Learner, batch: Batch, inner_loss: BatchLoss) -> Tensor:
        """Return the rest of the stack's loss on the mixed batch."""
        weight, partner = draw_partners(self.alpha, batch.index, task.rng, task.generator)
        return inner_loss(batch.mixed(partner, weight))


def draw_partners(
    alpha: float, examples: Tensor, rng: np.random.Generator, generator: torch.Generator | None
) -> tuple[float, Tensor]:
    """Return the weight of the examples of a batch, and the (B,) positions of their partners.

    Args:
        alpha: both parameters of the Beta distribution of the weight.
        examples: tensor with B rows, on the device of the positions.
        rng: random numbers on the host, for the weight.
        generator: random numbers on the device, for the partners; None uses those of torch.
    """
    weight = float(rng.beta(alpha, alpha))
    return weight, torch.randperm(len(examples), generator=generator, device=examples.device)


def mix(values: Tensor, partner: Tensor, weight: float) -> Tensor:
    """Return each row of (B, ...) values, mixed with that of its partner.

    >>> mix(torch.tensor([0.0, 1.0]), torch.tensor([1, 0]), weight=0.75)
    tensor([0.2500, 0.7500])
    """
    return values.lerp(values[partner], 1 - weight)
