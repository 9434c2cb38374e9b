"""Two convolutions and a dense layer for small images: 139,000 weights that memorise thousands of images on a CPU."""

from __future__ import annotations

from torch import nn

from noisybench.networks._staged import Staged


def build(num_classes: int, channels: int) -> nn.Module:
    """Two 3x3 convolutions with batch normalisation (16 and 32 maps), a pooling after each, 256 hidden units, a classifier.

    Args:
        num_classes: number of outputs.
        channels: input channels; inputs are (B, channels, H, W) with H and W from 4 up.
    """
    layers: list[nn.Module] = []
    for inside, outside in ((channels, 16), (16, 32)):
        layers += [
            nn.Conv2d(inside, outside, 3, padding=1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        ]
    layers += [nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(512, 256), nn.ReLU(inplace=True)]
    layers += [nn.Linear(256, num_classes)]
    return Staged({str(place): layer for place, layer in enumerate(layers)}, stages=("3", "7", "11"))
