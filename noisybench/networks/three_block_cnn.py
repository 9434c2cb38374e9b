"""Three convolutions for digits and other tiny images: 24,000 weights."""

from __future__ import annotations

from torch import nn

from noisybench.networks._staged import Staged


def build(num_classes: int, channels: int) -> nn.Module:
    """Three 3x3 convolutions with batch normalisation (16, 32, 64 maps; strides 1, 2, 2), mean pooling, a linear classifier.

    Args:
        num_classes: number of outputs.
        channels: input channels; inputs are (B, channels, H, W) with H and W from 4 up.
    """
    layers: list[nn.Module] = []
    for inside, outside, stride in ((channels, 16, 1), (16, 32, 2), (32, 64, 2)):
        layers += [
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(inplace=True),
        ]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes)]
    return Staged({str(place): layer for place, layer in enumerate(layers)}, stages=("2", "5", "8"))
