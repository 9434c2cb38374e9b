"""Compact U-Nets."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from noisybench.errors import UserError

EXAMPLE = "8"
DEPTH = 3


class UNet(nn.Module):
    """Encoder and decoder of three poolings with skip connections (Ronneberger et al. 2015), batch normalisation.

    Maps (B, channels, H, W) to (B, C, H, W) scores; where H or W is no multiple of 8 the lower levels are rounded up.
    """

    def __init__(self, num_classes: int, channels: int, width: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(DEPTH + 1)]
        self.down = nn.ModuleList(
            _double(before, after) for before, after in zip([channels, *widths[:-1]], widths, strict=True)
        )
        self.up = nn.ModuleList(
            _double(widths[level] + widths[level + 1], widths[level]) for level in reversed(range(DEPTH))
        )
        self.scores = nn.Conv2d(width, num_classes, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, H, W) scores."""
        kept: list[Tensor] = []
        found = inputs
        for place, layer in enumerate(self.down):
            found = layer(found if place == 0 else functional.max_pool2d(found, 2, ceil_mode=True))
            kept.append(found)
        kept.pop()
        for layer in self.up:
            other = kept.pop()
            found = functional.interpolate(found, size=other.shape[2:], mode="bilinear", align_corners=False)
            found = layer(torch.cat([found, other], 1))
        scores: Tensor = self.scores(found)
        return scores


def _double(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for first in (before, after):
        layers += [nn.Conv2d(first, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def build(num_classes: int, channels: int, argument: str) -> nn.Module:
    """A U-Net for masks.

    Args:
        num_classes: number of outputs for each pixel.
        channels: input channels.
        argument: number of maps at full resolution, such as ``8``.

    Raises:
        UserError: the argument is no number from 1 up.
    """
    if not argument.isdigit() or not int(argument):
        raise UserError(
            f"budget.network: unet takes the number of its first maps, such as unet:8, but got unet:{argument}"
        )
    return UNet(num_classes, channels, int(argument))
