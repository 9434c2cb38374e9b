"""PreActResNet-18 with the 3x3 stride-1 stem: 11.2 million weights (He et al. 2016b)."""

from __future__ import annotations

from torch import nn

from noisybench.networks._residual import residual_network


def build(num_classes: int, channels: int) -> nn.Module:
    """Return stages of 2, 2, 2, 2 pre-activation blocks with 64 to 512 channels.

    Most publications on label noise use another network of this name: `preact_resnet18_stem_bn`.
    """
    return residual_network(num_classes, channels, blocks=(2, 2, 2, 2), pre_activation=True)
