"""Two convolutions and a dense layer for small images: 139,000 weights, enough to memorize thousands of images."""

from __future__ import annotations

from torch import nn

from noisybench.networks._staged import Staged
from noisybench.nn.pooling import MaxPool2x2


def build(num_classes: int, channels: int) -> nn.Module:
    """Return two 3x3 convolutions with batch normalization (16, 32 channels) and pooling, 256 hidden units, a classifier.

    Args:
        num_classes: number of outputs.
        channels: number of input channels; inputs are (B, channels, H, W) with H, W >= 4.
    """
    layers: list[nn.Module] = []
    for in_channels, out_channels in ((channels, 16), (16, 32)):
        layers += [
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            MaxPool2x2(),
        ]
    # Pooled to 32 channels of 4x4 positions, 512 inputs, for images of any size.
    layers += [nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(512, 256), nn.ReLU(inplace=True)]
    layers += [nn.Linear(256, num_classes)]
    return Staged({str(number): layer for number, layer in enumerate(layers)}, stages=("3", "7", "11"))
