"""A linear classifier on features that the user brings, as (N, D, 1, 1) inputs; channels are averaged over all pixels."""

from __future__ import annotations

from torch import nn


def build(num_classes: int, channels: int) -> nn.Module:
    """The mean over all places, and a linear classifier.

    Args:
        num_classes: number of outputs.
        channels: number of features D; inputs are (B, D, H, W).
    """
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
