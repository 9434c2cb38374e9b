"""Heads on the features of pre-trained backbones."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from noisybench.config.parameters import parameter
from noisybench.nn.features import last_linear
from noisybench.nn.frozen import with_frozen_backbone
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import ModelBuilder


class HeadBuilder(ModelBuilder):
    """Base class of mitigations that replace the classifier of a pre-trained network."""

    tasks: ClassVar[tuple[str, ...]] = ("transfer", "step_verification")

    lr_multiplier: float = parameter(
        1.0, gt=0, low=0.1, high=10.0, log=True, help="Factor applied to the budget's learning rate"
    )

    @property
    def requirements(self) -> Requirements:
        """A multiple of the budget's learning rate."""
        return Requirements(lr_multiplier=self.lr_multiplier)

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """Check that the network has a classifier that can be replaced."""
        if last_linear(network) is None:
            return [f"`{budget.network}` has no linear classifier that a head could replace; choose another network"]
        return []


class MLPHeadBuilder(HeadBuilder):
    """Base class of mitigations that train a residual multilayer perceptron and a classifier on frozen features."""

    expansion: int = parameter(4, ge=1, low=1, high=4, help="Width of hidden layers as a multiple of the feature width")
    hidden_layers: int = parameter(1, ge=1, low=1, high=2, help="Number of hidden layers")
    residual: bool = parameter(True, help="Add the features to the output")
    scale: float = parameter(1.0, gt=0, help="Initial factor of the output, learned for each dimension")

    def build_model(self, network: nn.Module) -> nn.Module:
        """Return the frozen backbone with the perceptron and a new classifier."""
        return with_frozen_backbone(
            network, lambda width: ResidualMLP(width, self.expansion, self.hidden_layers, self.residual, self.scale)
        )


class ResidualMLP(nn.Module):
    """Perceptron on (B, D) features: hidden layers with batch normalization and ReLU, scaled, plus the features."""

    def __init__(self, width: int, expansion: int, hidden_layers: int, residual: bool, scale: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        input_width = width
        for _ in range(hidden_layers):
            layers += [nn.Linear(input_width, expansion * width), nn.BatchNorm1d(expansion * width), nn.ReLU()]
            input_width = expansion * width
        # The output has the width of the features, for the residual sum and a classifier of the original size.
        self.layers = nn.Sequential(*layers, nn.Linear(input_width, width))
        self.scale = nn.Parameter(torch.full((width,), scale))
        self.residual = residual

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, D) transformed features."""
        transformed: Tensor = self.scale * self.layers(features)
        return transformed + features if self.residual else transformed
