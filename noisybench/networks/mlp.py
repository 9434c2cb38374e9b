"""A multilayer perceptron on images averaged to 8x8 pixels, as `mlp:WIDTHS`, e.g. `mlp:512-512` or `mlp:256n-64`."""

from __future__ import annotations

import re

from torch import nn

from noisybench.errors import UserError
from noisybench.networks._staged import Staged

EXAMPLE = "16n-8"
SIDE = 8
"""Side in pixels to which images are averaged."""


def build(num_classes: int, channels: int, widths: str) -> nn.Module:
    """Return hidden layers with ReLU, and a linear classifier.

    Args:
        num_classes: number of outputs.
        channels: number of input channels; inputs are (B, channels, H, W), averaged to 8x8 pixels.
        widths: widths of the hidden layers, separated by dashes; an `n` after a width adds batch normalization.

    Raises:
        UserError: the widths have another format.
    """
    if not re.fullmatch(r"[1-9]\d*n?(-[1-9]\d*n?)*", widths):
        raise UserError(
            f"budget.network: expected widths such as `mlp:512-512` or `mlp:256n-64`, but got `mlp:{widths}`"
        )
    layers: dict[str, nn.Module] = {"pool": nn.AdaptiveAvgPool2d(SIDE), "flatten": nn.Flatten()}
    in_features = SIDE * SIDE * channels
    for number, text in enumerate(widths.split("-"), 1):
        width = int(text.removesuffix("n"))
        layers[f"hidden{number}"] = nn.Linear(in_features, width)
        if text.endswith("n"):
            layers[f"norm{number}"] = nn.BatchNorm1d(width)
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        in_features = width
    layers["classifier"] = nn.Linear(in_features, num_classes)
    return Staged(layers, stages=[name for name in layers if name.startswith("relu")])
