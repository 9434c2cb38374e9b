"""Heads on frozen features."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from noisybench.config.parameters import parameter
from noisybench.nn.features import classifier
from noisybench.nn.frozen import on_frozen
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import ModelBuilder


class Head(ModelBuilder):
    """Trains a head on a frozen backbone."""

    tasks: ClassVar[tuple[str, ...]] = ("transfer",)

    rate_times: float = parameter(1.0, gt=0, low=0.1, high=10.0, log=True, help="times the budget's learning rate")

    @property
    def requirements(self) -> Requirements:
        """A multiple of the budget's learning rate."""
        return Requirements(lr_multiplier=self.rate_times)

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """There is a classifier to put the head in the place of."""
        if classifier(network) is None:
            return [f"`{budget.network}` has no linear classifier that a head could replace; choose another network"]
        return []


class OnMLP(Head):
    """Trains a multilayer perceptron with a residual connection, and a classifier on it."""

    expansion: int = parameter(4, ge=1, low=1, high=4, help="width of hidden layers, times that of the features")
    hidden_layers: int = parameter(1, ge=1, low=1, high=2, help="number of hidden layers")
    residual: bool = parameter(True, help="add the features to the output")
    scale: float = parameter(1.0, gt=0, help="initial factor of the output, learned for each dimension")

    def build_model(self, network: nn.Module) -> nn.Module:
        """The frozen backbone, the perceptron, and a fresh classifier."""
        return on_frozen(
            network, lambda width: ResidualMLP(width, self.expansion, self.hidden_layers, self.residual, self.scale)
        )


class ResidualMLP(nn.Module):
    """Maps (B, D) features to (B, D): hidden layers with batch normalisation and ReLU, scaled, plus the features."""

    def __init__(self, width: int, expansion: int, hidden_layers: int, residual: bool, scale: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = width
        for _ in range(hidden_layers):
            layers += [nn.Linear(before, expansion * width), nn.BatchNorm1d(expansion * width), nn.ReLU()]
            before = expansion * width
        self.layers = nn.Sequential(*layers, nn.Linear(before, width))
        self.scale = nn.Parameter(torch.full((width,), scale))
        self.residual = residual

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) changed features."""
        changed: Tensor = self.scale * self.layers(features)
        return changed + features if self.residual else changed
