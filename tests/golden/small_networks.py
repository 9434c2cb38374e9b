"""Small networks with batch normalization, and the parts of a task that a loss with one network reads."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

INPUTS, FEATURES, CLASSES, PROJECTION = 12, 6, 4, 5


def backbone() -> nn.Module:
    """Return a network from 12 inputs to 6 features."""
    return nn.Sequential(nn.Flatten(), nn.Linear(INPUTS, FEATURES), nn.BatchNorm1d(FEATURES), nn.ReLU())


class SmallNetwork(nn.Module):
    """A backbone with a classifier and a contrastive head, in the order of LSA's wrapper."""

    def __init__(self) -> None:
        super().__init__()
        self.model = backbone()
        self.linear = nn.Linear(FEATURES, CLASSES)
        self.contrastive = nn.Linear(FEATURES, PROJECTION)

    def forward(self, inputs: Tensor, return_features: bool = False) -> Any:
        """Return the scores, and the projections if they are asked for."""
        features = self.model(inputs)
        return (self.linear(features), self.contrastive(features)) if return_features else self.linear(features)


def flat(network: nn.Module, gradients: bool = False) -> NDArray[Any]:
    """Return all weights and statistics of a network, or all gradients, in one array."""
    if gradients:
        tensors = [torch.zeros_like(p) if p.grad is None else p.grad for p in network.parameters()]
    else:
        tensors = [tensor for name, tensor in network.state_dict().items() if "num_batches" not in name]
    return torch.cat([tensor.detach().flatten().float() for tensor in tensors]).numpy().copy()


def fill(network: nn.Module, values: Tensor) -> None:
    """Set all weights and statistics of a network from one array."""
    position = 0
    for name, tensor in network.state_dict().items():
        if "num_batches" not in name:
            tensor.copy_(values[position : position + tensor.numel()].view_as(tensor))
            position += tensor.numel()


def learner(network: SmallNetwork, epoch: int, mix_weight: float) -> Any:
    """Return a task with one network."""

    def features_and_logits(inputs: Tensor, number: int) -> tuple[Tensor, Tensor]:
        features = network.model(inputs)
        return features, network.linear(features)

    return SimpleNamespace(
        current_epoch=epoch, sampler=SimpleNamespace(steps_per_epoch=1), networks=nn.ModuleList([network]),
        heads={"projection_0": network.contrastive}, features_and_logits=features_and_logits, generator=None,
        logits=lambda inputs, number: network(inputs), rng=SimpleNamespace(beta=lambda first, second: mix_weight),
    )  # fmt: skip


def images(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    """Return random images of 1x3x4 pixels."""
    return rng.normal(size=(*shape, 1, 3, 4)).astype(np.float32)
