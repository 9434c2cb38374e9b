"""Distributed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, distributed, nn

if TYPE_CHECKING:
    from noisybench.training.batch import Batch
    from noisybench.training.task import Task


def batch_statistics(network: nn.Module) -> bool:
    """Whether a network normalises by the batch, which processors cannot share."""
    return any(isinstance(each, nn.modules.batchnorm._BatchNorm) for each in network.modules())


class GradientSync:
    """What one of several processes does in an epoch: its share of every batch, and what it has learned of it told to all."""

    def __init__(self, task: Task) -> None:
        self._task, (self._rank, self._count) = task, task.place
        self._own = torch.zeros(task.training_set.labels, dtype=torch.bool, device=task.device)

    def loss(self, objective: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
        """This process's share of the batch's mean loss; of a batch too small to be shared, all do the same."""
        whole = len(batch.inputs) < self._count
        part = batch if whole else batch.share(self._rank, self._count)
        if not whole or self._rank == 0:
            self._own[part.index if part.inside is None else part.index[part.inside]] = True
        share = 1 / self._count if whole else part.labelled / max(batch.labelled, 1)
        return self._task.mean_loss(objective(part), part) * share

    def average_gradients(self) -> None:
        """Sum the gradients of all processes, each of which has weighted its own by its share of the batch."""
        parameters = [*self._task.networks.parameters(), *self._task.heads.parameters()]
        gradients = [each.grad for each in parameters if each.grad is not None]
        whole = torch.cat([each.flatten() for each in gradients])
        distributed.all_reduce(whole)
        for gradient, summed in zip(gradients, torch.split(whole, [each.numel() for each in gradients]), strict=True):
            gradient.copy_(summed.view_as(gradient))

    def exchange(self, total: Tensor) -> None:
        """Bring together the sum of losses, and what mitigations keep."""
        distributed.all_reduce(total)
        for mitigation in self._task.stack.mitigations:
            for name, how in (mitigation.requirements.distributed_state or {}).items():
                values = mitigation.state[name]
                if how == "gather":
                    mitigation.state[name] = merge_rows(values, self._own)
                else:
                    distributed.all_reduce(values)


def merge_rows(values: Tensor, own: Tensor) -> Tensor:
    """Take from each process the rows that it has changed.

    Args:
        values: (N, …) of this process.
        own: (N,) bool, rows that it has changed; no row is changed by two.

    Returns:
        (N, …) the same in every process; rows that nobody has changed stay.
    """
    shape = (-1, *[1] * (values.ndim - 1))
    summed = torch.where(own.view(shape), values, torch.zeros_like(values))
    distributed.all_reduce(summed)
    changed = own.to(torch.uint8)
    distributed.all_reduce(changed)
    return torch.where(changed.view(shape) > 0, summed, values)
