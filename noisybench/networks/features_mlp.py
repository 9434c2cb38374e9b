"""A multilayer perceptron on precomputed features, as `features_mlp:WIDTHS`, e.g. `features_mlp:512-256`."""

from __future__ import annotations

import re

from torch import nn

from noisybench.errors import UserError
from noisybench.networks._staged import Staged
from noisybench.networks.features import Average

EXAMPLE = "256"


def build(num_classes: int, channels: int, widths: str) -> nn.Module:
    """Return hidden layers with ReLU, and a linear classifier.

    Args:
        num_classes: number of outputs.
        channels: number of features D; inputs are (B, D), or (B, D, H, W).
        widths: widths of the hidden layers, separated by dashes.

    Raises:
        UserError: the widths have another format.

    >>> import torch
    >>> build(num_classes=3, channels=5, widths="8-4")(torch.zeros(2, 5)).shape
    torch.Size([2, 3])
    """
    if not re.fullmatch(r"[1-9]\d*(-[1-9]\d*)*", widths):
        raise UserError(
            f"budget.network: expected widths such as `features_mlp:256` or `features_mlp:512-256`, but got "
            f"`features_mlp:{widths}`"
        )
    layers: dict[str, nn.Module] = {"average": Average(1), "flatten": nn.Flatten()}
    in_features = channels
    for number, width in enumerate(map(int, widths.split("-")), 1):
        layers[f"hidden{number}"] = nn.Linear(in_features, width)
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        in_features = width
    layers["classifier"] = nn.Linear(in_features, num_classes)
    return Staged(layers, stages=[name for name in layers if name.startswith("relu")])
