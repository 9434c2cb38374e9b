"""Compact U-Nets."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from noisybench.errors import UserError
from noisybench.nn.pooling import max_pool_2x2

EXAMPLE = "8"
DEPTH = 3
"""Number of poolings."""


class UNet(nn.Module):
    """Encoder and decoder with three poolings, skip connections and batch normalization (Ronneberger et al. 2015).

    Maps (B, channels, H, W) to (B, C, H, W) logits. If H or W is not a multiple of 8, lower levels are rounded up.
    """

    def __init__(self, num_classes: int, channels: int, width: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(DEPTH + 1)]
        self.down = nn.ModuleList(
            _double_convolution(before, after) for before, after in zip([channels, *widths[:-1]], widths, strict=True)
        )
        self.up = nn.ModuleList(
            _double_convolution(widths[level] + widths[level + 1], widths[level]) for level in reversed(range(DEPTH))
        )
        self.scores = nn.Conv2d(width, num_classes, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (B, C, H, W) logits."""
        skipped: list[Tensor] = []
        features = inputs
        for level, layer in enumerate(self.down):
            # Rounding up keeps the last row and column of odd sizes.
            features = layer(features if level == 0 else max_pool_2x2(features, ceil_mode=True))
            skipped.append(features)
        # The lowest level is the input of the decoder, not a skip connection.
        skipped.pop()
        for layer in self.up:
            skip = skipped.pop()
            # To the size of the skip connection: a factor of two would not undo the rounding.
            features = functional.interpolate(features, size=skip.shape[2:], mode="bilinear", align_corners=False)
            features = layer(torch.cat([features, skip], 1))
        logits: Tensor = self.scores(features)
        return logits


def _double_convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (in_channels, out_channels):
        layers += [
            # Batch normalization would remove a bias.
            nn.Conv2d(width, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def build(num_classes: int, channels: int, argument: str) -> nn.Module:
    """Return a U-Net.

    Args:
        num_classes: number of outputs for each pixel.
        channels: number of input channels.
        argument: number of channels at full resolution, such as ``8``.

    Raises:
        UserError: the argument is not a positive integer.
    """
    if not argument.isdigit() or not int(argument):
        raise UserError(
            f"budget.network: unet takes the number of channels at full resolution, such as unet:8, but got unet:{argument}"
        )
    return UNet(num_classes, channels, int(argument))
