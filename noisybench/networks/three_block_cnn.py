"""Three convolutions for digits and other tiny images: 24,000 weights."""

from __future__ import annotations

from torch import nn

from noisybench.networks._staged import Staged


def build(num_classes: int, channels: int) -> nn.Module:
    """Return three 3x3 convolutions with batch normalization (16, 32, 64 channels; strides 1, 2, 2) and a linear classifier.

    Args:
        num_classes: number of outputs.
        channels: number of input channels; inputs are (B, channels, H, W) with H, W >= 4.
    """
    layers: list[nn.Module] = []
    for in_channels, out_channels, stride in ((channels, 16, 1), (16, 32, 2), (32, 64, 2)):
        layers += [
            nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        ]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes)]
    return Staged({str(number): layer for number, layer in enumerate(layers)}, stages=("2", "5", "8"))
