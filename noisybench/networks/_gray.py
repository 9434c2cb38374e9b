"""Gray images for networks that take colours."""

from __future__ import annotations

from torch import nn

from noisybench.errors import UserError


def for_gray_images(model: nn.Module, channels: int, name: str) -> nn.Module:
    """The model itself for 3 channels, or behind a repetition of the only one.

    Raises:
        UserError: there are neither 1 nor 3.
    """
    if channels not in (1, 3):
        raise UserError(f"budget.network: `{name}` takes colour or gray images, not {channels} channels")
    if channels == 3:
        return model
    # Repeating a gray image is a 1x1 convolution with fixed weights of one.
    repeat = nn.Conv2d(1, 3, 1, bias=False)
    nn.init.ones_(repeat.weight).requires_grad_(False)
    return nn.Sequential(repeat, model)
