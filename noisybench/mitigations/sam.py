"""Sharpness-aware minimization."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch
from noisybench.training.mitigation import BatchLoss, Requirements
from noisybench.training.roles import GradientTransform, LossWrapper

if TYPE_CHECKING:
    from noisybench.training.learner import Learner

SMALLEST_NORM = 1e-12
"""Added to the norm of a gradient before a division by it."""


class SAM(LossWrapper, GradientTransform):
    """Minimize the largest loss in a neighborhood of the weights instead of the loss at them (SAM).

    Each step follows the gradient at the weights moved by a length of `rho` up the gradient (Foret et al. 2021). The authors
    find that flat minima fit incorrect labels less. It needs two forward and backward passes per step, and works with any loss
    that keeps no state per sample.
    """

    fidelity = Fidelity(
        formula="w ← w - η ∇L(w + d), d = rho · s(w)² ∇L(w) / ‖s(w) ∇L(w)‖, with s(w) = 1, or |w| if adaptive",
        reference="https://github.com/davda54/sam",
        commit="3c3afdbd71cff2462ec91c734b3d1170bd0f3707",
        license="MIT",
        compared="losses, weights and batch statistics of a network with a convolution and batch normalization over 4 steps, "
        "plain and adaptive",
        difference="below 1e-6",
        golden=("sam",),
        deviations=(
            Deviation(
                "each of several networks moves up its own gradient",
                "networks of co-teaching are independent",
                "none for one network",
            ),
            Deviation(
                "mitigations after it in the stack are computed twice per step: `mixup` mixes the batch anew, and "
                "`trimmed_loss` and `meta_weight_net` update their state twice",
                "a wrapper knows the loss of the rest of the stack as a function only",
                "none for other losses, and for `mixup+sam`",
            ),
        ),
    )

    rho: float = parameter(
        0.05,
        gt=0,
        low=0.01,
        high=0.5,
        log=True,
        help="Distance by which the weights are moved before the gradient is taken",
    )
    adaptive: bool = parameter(False, help="Measure the distance relative to the size of each weight")

    @property
    def requirements(self) -> Requirements:
        """No state, and two losses per batch."""
        return Requirements(repeats_loss=True)

    def on_epoch_start(self, task: Learner) -> None:
        """Start at the weights themselves."""
        self._before: list[tuple[Tensor, Tensor]] = []

    def wrap_loss(self, task: Learner, batch: Batch, inner_loss: BatchLoss) -> Tensor:
        """Return the loss of a batch at the weights moved up the gradient of its mean."""
        # After `ensemble`, once for each network: those before it stay where they are until the backward pass.
        self._move_up(task.networks, inner_loss(batch).mean())
        return inner_loss(batch)

    def transform_gradients(self, task: Learner) -> None:
        """Move the weights back, before the optimizer changes them."""
        self._restore()

    def _move_up(self, networks: nn.ModuleList, loss: Tensor) -> None:
        """Move the weights of networks up the gradient of a loss, in place."""
        weights = [weight for weight in networks.parameters() if weight.requires_grad]
        # Of all networks before any weight is moved, because the loss may connect them.
        found = torch.autograd.grad(loss, weights, allow_unused=True)
        gradients = {weight: slope for weight, slope in zip(weights, found, strict=True) if slope is not None}
        for network in networks:
            moved = [weight for weight in network.parameters() if weight in gradients]
            scales = [weight.detach().abs() if self.adaptive else 1.0 for weight in moved]
            scaled = [gradients[weight] * scale for weight, scale in zip(moved, scales, strict=True)]
            if not moved:
                continue
            # The factor stays on the device, so that the host does not wait.
            factor = self.rho / (torch.stack([each.norm() for each in scaled]).norm() + SMALLEST_NORM)
            # The batch statistics follow each batch once, at the weights themselves. The backward pass still reads the others.
            self._before += [(values, values.detach().clone()) for values in (*moved, *network.buffers())]
            with torch.no_grad():
                for weight, slope, scale in zip(moved, scaled, scales, strict=True):
                    weight.add_(slope * scale * factor)

    def _restore(self) -> None:
        """Move all weights and batch statistics back."""
        with torch.no_grad():
            for values, before in reversed(self._before):
                values.copy_(before)
        self._before = []
