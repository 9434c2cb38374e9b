"""Networks of a pre-trained backbone and a head that is trained on its features."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from noisybench.errors import UserError
from noisybench.nn.features import classifier


class Frozen(nn.Module):
    """A backbone that is never trained: no gradient, and normalisation statistics stay as they are.

    Features that were computed before, (B, D), pass through, so that a frozen backbone need not be asked twice.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Frozen:
        """Always in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> Tensor:
        """(B, D) features of (B, C, H, W) inputs, or of features themselves."""
        if inputs.dim() == 2:
            return inputs
        features: Tensor = self.backbone(inputs)
        return features.flatten(1)


class Tuned(nn.Module):
    """A backbone, a head on its features, and a linear classifier.

    Attributes:
        backbone: maps inputs to (B, D) features.
        head: maps features to features of the same width.
        classifier: maps these to scores.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, classifier: nn.Linear) -> None:
        super().__init__()
        self.backbone, self.head, self.classifier = backbone, head, classifier

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C) scores."""
        scores: Tensor = self.classifier(self.head(self.backbone(inputs)))
        return scores


def fresh_classifier(features: int, classes: int) -> nn.Linear:
    """A linear classifier with Kaiming-uniform weights and no bias at the start, as linear probes usually begin."""
    layer = nn.Linear(features, classes)
    nn.init.kaiming_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def split_network(network: nn.Module) -> tuple[nn.Module, nn.Linear]:
    """A copy of a network without its classifier, so that it gives features, and the classifier.

    Raises:
        UserError: it has no linear classifier.
    """
    backbone = copy.deepcopy(network)
    found = classifier(backbone)
    if found is None:
        raise UserError("budget.network: it has no linear classifier that a head could replace; choose another network")
    name, layer = found
    if name == "":  # the network is nothing but its classifier
        return nn.Flatten(), layer
    parent, _, own = name.rpartition(".")
    setattr(backbone.get_submodule(parent), own, nn.Identity())
    return backbone, layer


def on_frozen(network: nn.Module, head: Any) -> Tuned:
    """A network's frozen backbone with a head and a fresh classifier on it.

    Args:
        network: with its pre-trained weights.
        head: makes the head, given the width of the features.
    """
    backbone, last = split_network(network)
    return Tuned(Frozen(backbone), head(last.in_features), fresh_classifier(last.in_features, last.out_features))
