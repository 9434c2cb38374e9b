"""Grayscale images for networks that require color images."""

from __future__ import annotations

from torch import nn

from noisybench.errors import UserError


def for_gray_images(model: nn.Module, channels: int, name: str) -> nn.Module:
    """Return a model of color images for the given number of channels; a single channel is repeated.

    Raises:
        UserError: there are neither 1 nor 3 channels.
    """
    if channels not in (1, 3):
        raise UserError(
            f"budget.network: `{name}` takes color or grayscale images, but the inputs have {channels} channels"
        )
    if channels == 3:
        return model
    # Repeating a channel is a 1x1 convolution with fixed weights of one.
    repeat = nn.Conv2d(1, 3, 1, bias=False)
    nn.init.ones_(repeat.weight).requires_grad_(False)
    return nn.Sequential(repeat, model)
