"""Gradients of a batch in parts: those of one part after the other, summed before an optimizer step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from noisybench.training.batch import Batch


def accumulate(loss: Callable[[Batch], Tensor], batch: Batch, parts: int, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return the mean loss of a batch, whose backward pass sets the gradients that the parts have added up.

    Only the activations of one part are in memory at a time. The gradients are those of the complete batch up to rounding
    if the loss of an example does not depend on the others of its batch.

    Args:
        loss: mean loss of a batch over its labels.
        batch: batch.
        parts: number of parts; a batch with fewer examples has one example in each.
        parameters: parameters that receive gradients.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> batch = Batch({"weak": torch.arange(4.0)[:, None]}, torch.zeros(4), torch.arange(4), num_classes=1)
        >>> accumulate(lambda part: layer(part.inputs).mean(), batch, 2, list(layer.parameters())).backward()
        >>> layer.weight.grad.item(), layer.bias.grad.item()
        (1.5, 1.0)
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    sums: list[Tensor | None] = [None] * len(trained)
    total, count = torch.zeros((), device=batch.observed.device), min(parts, len(batch.inputs))
    for number in range(count):
        part = batch.shard(number, count)
        # Weighted by labels, because parts of different size would bias a plain mean.
        value = loss(part) * (part.num_labels / max(batch.num_labels, 1))
        gradients = torch.autograd.grad(value, trained, allow_unused=True)
        sums = [
            new if old is None else old if new is None else old + new for old, new in zip(sums, gradients, strict=True)
        ]
        total = total + value.detach()
    result: Tensor = _SetGradients.apply(total, sums, *trained)
    return result


class _SetGradients(torch.autograd.Function):
    """Return a number whose backward pass gives parameters known gradients.

    The training loop may clear all gradients between the forward and the backward pass, as Lightning does.
    """

    @staticmethod
    def forward(ctx: Any, total: Tensor, gradients: Sequence[Tensor | None], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return total.clone()

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *(None if gradient is None else gradient * scale for gradient in ctx.gradients))
