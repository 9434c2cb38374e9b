"""A small convolutional network for digits and other tiny images: about 6,000 weights."""

from __future__ import annotations

from torch import nn

from noisybench.networks._staged import Staged
from noisybench.nn.pooling import MaxPool2x2


def build(num_classes: int, channels: int) -> nn.Module:
    """Return two 3x3 convolutions with batch normalization (16 and 32 channels), one pooling, and a linear classifier.

    Args:
        num_classes: number of outputs.
        channels: number of input channels; inputs are (B, channels, H, W) with H, W >= 4.
    """
    layers = [
        nn.Conv2d(channels, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        MaxPool2x2(),
        nn.Conv2d(16, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, num_classes),
    ]
    return Staged({str(number): layer for number, layer in enumerate(layers)}, stages=("2", "6"))
