"""Robust early-learning with critical parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import GradientTransform

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class CDR(GradientTransform):
    """Update only critical parameters in each step, and let the others decay (CDR).

    Parameters whose product of weight and gradient is small contribute little to fitting correct labels, and tend to fit
    incorrect ones (Xia et al. 2021). As many weights of convolutions and linear layers are critical as labels are
    correct; their gradients are scaled by the same fraction, and the others are zero, so that momentum and weight decay
    alone move them. The default `noise_rate` is the true one, which is privileged information. It works with any loss.
    """

    fidelity = Fidelity(
        formula="∇w ← (1 - noise_rate) · ∇w if |w · ∇w| is among the largest fraction 1 - noise_rate, else 0",
        reference="https://github.com/xiaoboxia/CDR",
        commit="6665a8ba265f0f60291ed7775042575db05bed61",
        license="not stated",
        compared="losses and weights of a network with convolutions and batch normalization over 4 steps, at noise rates of "
        "0.2, 0.4 and 0.6",
        difference="none",
        golden=("cdr",),
        deviations=(
            Deviation(
                "the fraction is constant, as in the authors' code, which computes a ramp of `num_gradual` epochs and "
                "overwrites it before it is used",
                "the published results are those of the code",
                "none to the code",
            ),
            Deviation(
                "one forward pass per step; the authors' code has another one in training mode for its accuracy",
                "it trains nothing",
                "their running statistics of batch normalization follow each batch twice",
            ),
        ),
    )

    noise_rate: float | None = parameter(
        None,
        ge=0,
        lt=1,
        low=0.05,
        high=0.6,
        help="Fraction of parameters that are not critical; by default the true noise rate (privileged)",
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return the true noise rate, and a given one."""
        return {}, {"noise_rate": 0.5}

    @property
    def requirements(self) -> Requirements:
        """The true noise rate unless one is given."""
        return Requirements(privileged=("noise_rate",) if self.noise_rate is None else (), distributed_state={})

    def transform_gradients(self, task: Learner) -> None:
        """Scale the gradients of the critical weights of each network, and set those of its other weights to zero."""
        fraction = 1 - (float(self.privileged.noise_rate) if self.noise_rate is None else self.noise_rate)
        for network in task.networks:
            pairs = [
                (weight, weight.grad)
                for weight in network.parameters()
                if weight.dim() in (2, 4) and weight.grad is not None
            ]
            # The importance of a weight: the change of the loss, to first order, if it were zero.
            products = [(weight.detach() * gradient).abs() for weight, gradient in pairs]
            count = int(fraction * sum(product.numel() for product in products))
            if not count:
                continue
            # On the device, so that the host does not wait.
            threshold = torch.cat([product.flatten() for product in products]).topk(count, sorted=False).values.min()
            for (_, gradient), product in zip(pairs, products, strict=True):
                gradient.mul_((product >= threshold) * fraction)
