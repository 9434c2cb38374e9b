"""Weights and images by formula, so that frozen files need not hold those of a large network."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


def waves(shape: tuple[int, ...], number: int) -> Tensor:
    """Return float64 values in [-1, 1] without a pattern, different for each number."""
    count = int(np.prod(shape, dtype=np.int64))
    return torch.from_numpy(np.sin((np.arange(count) + 1.0) * (1.3 + 0.37 * number) + number)).reshape(shape)


def set_weights(network: nn.Module) -> nn.Module:
    """Give every weight and statistic of a network a value by its position, and return the network in float64."""
    network.double()
    with torch.no_grad():
        for number, (name, tensor) in enumerate(sorted(network.state_dict().items())):
            if name.endswith("num_batches_tracked"):
                continue
            values = waves(tuple(tensor.shape), number)
            if tensor.dim() > 1:
                # Of the size that keeps the variance of activations.
                tensor.copy_(values * (4.0 / tensor[0].numel()) ** 0.5)
            else:
                near_one = name.endswith(("running_var", ".weight"))
                tensor.copy_(float(near_one) + 0.3 * values)
    return network
