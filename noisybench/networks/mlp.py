"""A multilayer perceptron on images averaged to 8x8 pixels, as `mlp:WIDTHS`, e.g. `mlp:512-512` or `mlp:256n-64`."""

from __future__ import annotations

import re

from torch import nn

from noisybench.errors import UserError
from noisybench.networks._staged import Staged

EXAMPLE = "16n-8"
SIDE = 8


def build(num_classes: int, channels: int, widths: str) -> nn.Module:
    """Hidden layers with ReLU, and a linear classifier.

    Args:
        num_classes: number of outputs.
        channels: input channels; inputs are (B, channels, H, W), averaged to 8x8 pixels.
        widths: of the hidden layers, with dashes between; an `n` after a width adds batch normalisation.

    Raises:
        UserError: it is not so written.
    """
    if not re.fullmatch(r"[1-9]\d*n?(-[1-9]\d*n?)*", widths):
        raise UserError(
            f"budget.network: widths such as `mlp:512-512` or `mlp:256n-64` are expected, but got `mlp:{widths}`"
        )
    layers: dict[str, nn.Module] = {"pool": nn.AdaptiveAvgPool2d(SIDE), "flatten": nn.Flatten()}
    before = SIDE * SIDE * channels
    for number, each in enumerate(widths.split("-"), 1):
        width = int(each.removesuffix("n"))
        layers[f"hidden{number}"] = nn.Linear(before, width)
        if each.endswith("n"):
            layers[f"norm{number}"] = nn.BatchNorm1d(width)
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        before = width
    layers["classifier"] = nn.Linear(before, num_classes)
    return Staged(layers, stages=[name for name in layers if name.startswith("relu")])
