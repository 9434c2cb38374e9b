"""A linear classifier of precomputed features, (N, D, 1, 1) inputs."""

from __future__ import annotations

from torch import nn


def build(num_classes: int, channels: int) -> nn.Module:
    """Return an average over all positions and a linear classifier.

    Args:
        num_classes: number of outputs.
        channels: number of features D; inputs are (B, D, H, W).
    """
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
