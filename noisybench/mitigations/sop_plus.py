"""Sparse over-parameterization with consistency and balance."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.mitigations._sparse_noise import SMALLEST, SparseNoise
from noisybench.training.batch import Batch
from noisybench.training.mitigation import Requirements
from noisybench.training.views import PolicyView, View

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


SECOND_VIEW = PolicyView("auto_augment_cifar10", cutout=(0.5, 0.5))
"""View whose predictions follow those of the weak one: 16 of 32 pixels are the authors' Cutout."""


class SOPPlus(SparseNoise):
    """Learn the noise of each label as `sop` does, with a consistent second view and balanced classes (SOP+).

    Predictions of a second view follow those of the weak one, and the mean corrected prediction of a batch follows the
    uniform distribution (Liu et al. 2022b). Both views pass through the network together, so that batch normalization has
    the statistics of both.
    """

    fidelity = Fidelity(
        formula="L = L_sop + consistency · KL(p ‖ p of the second view) - balance · mean over classes of log mean p'",
        reference="https://github.com/shengliu66/SOP",
        commit="4d991cedf1fafec98f858a213ccc31e52318a77f",
        license="MIT",
        compared="losses of 8 steps of both optimizers, weights of a linear network, u and v afterward",
        difference="4.8e-7 in the loss (single precision), 3.0e-8 in weights; none in u and v",
        golden=("sop",),
        deviations=(
            Deviation(
                "translations of the second view have the range of AutoAugment's paper, 45 % of the width; 10 pixels in the "
                "authors' code",
                "all methods have torchvision's operations",
                "7 of the 25 pairs of operations; the accuracy was not measured",
            ),
            Deviation(
                "u and v come from a named random stream; the authors' code draws them from the global one",
                "a resumed run draws the same numbers",
                "other draws of the same distribution, with a standard deviation of 1e-8",
            ),
        ),
    )

    consistency: float = parameter(0.9, ge=0, low=0.1, high=2.0, help="Weight of the consistency of both views")
    balance: float = parameter(0.1, ge=0, low=0.01, high=1.0, log=True, help="Weight of the balance of classes")
    second_view: Literal["auto_augment", "weak_2"] = parameter(
        "auto_augment", help="Second view of each example: AutoAugment for CIFAR-10 and Cutout, or another weak one"
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return both second views."""
        return {}, {"second_view": "weak_2"}

    @property
    def _second(self) -> View:
        return SECOND_VIEW if self.second_view == "auto_augment" else "weak_2"

    @property
    def requirements(self) -> Requirements:
        """Parameters of each example, and a second view; the balance of a batch needs all of its examples."""
        return dataclasses.replace(super().requirements, views=("weak", self._second), distributed_state=None)

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return the loss with the learned noise of each label, plus both regularizers."""
        logits, second = task.logits(torch.cat([batch.inputs, batch.views[self._second]])).chunk(2)
        losses, corrected = self.separate(task, batch, logits)
        losses = losses - self.balance * corrected.mean(0).clamp(SMALLEST, 1).log().mean()
        prediction, target = second.float().log_softmax(1), logits.detach().float().softmax(1)
        return losses + self.consistency * functional.kl_div(prediction, target, reduction="none").sum(1)
