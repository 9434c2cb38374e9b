"""Networks that consist of a pre-trained backbone and a head on its features."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from noisybench.errors import UserError
from noisybench.nn.features import last_linear


class FrozenBackbone(nn.Module):
    """A backbone that is never trained: it has no gradients, and normalization statistics do not change.

    Precomputed (B, D) features pass through unchanged, so that they are computed only once.

    >>> backbone = FrozenBackbone(nn.Linear(4, 2))
    >>> backbone.train().training, backbone(torch.zeros(3, 1, 2, 2).flatten(1)).shape
    (False, torch.Size([3, 4]))
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> FrozenBackbone:
        """Stay in evaluation mode."""
        # In training mode normalization would use batch statistics, and the features would drift.
        return super().train(False)

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> Tensor:
        """Return the (B, D) features of (B, C, H, W) inputs, or (B, D) features unchanged."""
        if inputs.dim() == 2:
            return inputs
        features: Tensor = self.backbone(inputs)
        return features.flatten(1)


class BackboneWithHead(nn.Module):
    """A backbone, a head on its features, and a linear classifier.

    Attributes:
        backbone: maps inputs to (B, D) features.
        head: maps features to features of the same width.
        classifier: maps the features of the head to (B, C) scores.

    >>> network = BackboneWithHead(nn.Flatten(), nn.Identity(), nn.Linear(4, 2))
    >>> network(torch.zeros(3, 1, 2, 2)).shape
    torch.Size([3, 2])
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, classifier: nn.Linear) -> None:
        super().__init__()
        self.backbone, self.head, self.classifier = backbone, head, classifier

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (B, C) scores."""
        scores: Tensor = self.classifier(self.head(self.backbone(inputs)))
        return scores


def has_frozen_backbone(network: nn.Module) -> bool:
    """Return True if a head is all of a network that is trained, so that the features of an input never change.

    >>> has_frozen_backbone(with_frozen_backbone(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), lambda width: nn.Identity()))
    True
    """
    return isinstance(network, BackboneWithHead) and isinstance(network.backbone, FrozenBackbone)


def new_classifier(features: int, classes: int) -> nn.Linear:
    """Return a linear classifier with Kaiming-uniform weights and zero bias, as is usual for linear probes.

    >>> new_classifier(4, 2)
    Linear(in_features=4, out_features=2, bias=True)
    """
    layer = nn.Linear(features, classes)
    nn.init.kaiming_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def split_network(network: nn.Module) -> tuple[nn.Module, nn.Linear]:
    """Return a copy of a network without its classifier, which outputs features, and the classifier.

    Raises:
        UserError: the network has no linear classifier.

    >>> backbone, classifier = split_network(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)))
    >>> backbone(torch.zeros(1, 4)).shape, classifier.out_features
    (torch.Size([1, 3]), 2)
    """
    backbone = copy.deepcopy(network)
    last = last_linear(backbone)
    if last is None:
        raise UserError("budget.network: it has no linear classifier that a head could replace; choose another network")
    path, layer = last
    if path == "":  # the network consists of its classifier only
        return nn.Flatten(), layer
    parent, _, name = path.rpartition(".")
    setattr(backbone.get_submodule(parent), name, nn.Identity())
    return backbone, layer


def with_frozen_backbone(network: nn.Module, build_head: Callable[[int], nn.Module]) -> BackboneWithHead:
    """Return a network's frozen backbone with a head and a new classifier.

    Args:
        network: the network with its pre-trained weights.
        build_head: maps the width of the features to the head.

    >>> network = with_frozen_backbone(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), lambda width: nn.Identity())
    >>> [name for name, weight in network.named_parameters() if weight.requires_grad]
    ['classifier.weight', 'classifier.bias']
    """
    backbone, last = split_network(network)
    # Head first, then classifier: the order of construction is the order of their random draws.
    head = build_head(last.in_features)
    return BackboneWithHead(FrozenBackbone(backbone), head, new_classifier(last.in_features, last.out_features))
