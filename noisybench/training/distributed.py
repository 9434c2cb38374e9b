"""Synchronization of the processes that train one run together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, distributed, nn

from noisybench.training.batch import Batch
from noisybench.training.learner import Learner
from noisybench.training.mitigation import Mitigation


def has_batch_norm(network: nn.Module) -> bool:
    """Return whether a network normalizes by batch statistics, which processes share on GPUs only.

    Example:
        >>> has_batch_norm(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
        True
    """
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


class GradientSync:
    """Train one of several processes on its shard of every batch, and share what it has learned.

    Args:
        learner: networks in training.
        mitigations: mitigations of the stack.
        rank: number of this process.
        world_size: number of processes.
    """

    def __init__(self, learner: Learner, mitigations: Sequence[Mitigation], rank: int, world_size: int) -> None:
        self._learner, self._mitigations, self._rank, self._world_size = learner, mitigations, rank, world_size
        # Rows of the state per label that this process has computed, in the order of `Batch.index`.
        self._own_rows = torch.zeros(learner.training_set.num_labels, dtype=torch.bool, device=learner.device)

    def loss(self, loss: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
        """Return this process's share of the batch's mean loss, so that the sum over all processes is that mean."""
        # A batch with fewer examples than processes cannot be split: every process trains on all of it.
        is_split = len(batch.inputs) >= self._world_size
        shard = batch.shard(self._rank, self._world_size) if is_split else batch
        # A batch that all processes train on has one owner, since `merge_rows` adds the rows of all owners.
        if is_split or self._rank == 0:
            self._own_rows[shard.index if shard.in_image is None else shard.index[shard.in_image]] = True
        # Weighted by labels, because shards of different size would bias a plain mean over processes.
        share = shard.num_labels / max(batch.num_labels, 1) if is_split else 1 / self._world_size
        return self._learner.sampler.mean_loss(loss(shard), shard) * share

    def sum_gradients(self) -> None:
        """Sum the gradients of all processes, each of which has weighted its own by its share of the batch."""
        parameters = [*self._learner.networks.parameters(), *self._learner.heads.parameters()]
        # All processes follow the same plan, so that the same parameters have gradients everywhere.
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        # One message for all parameters costs far less than one for each.
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, summed in zip(gradients, torch.split(flat, sizes), strict=True):
            gradient.copy_(summed.view_as(gradient))

    def sync_state(self, total_loss: Tensor) -> None:
        """Sum the losses of all processes, and combine the state that mitigations keep, at the end of an epoch."""
        # Each process has already weighted its losses by its share, so that their sum is the mean.
        distributed.all_reduce(total_loss)
        for mitigation in self._mitigations:
            for name, rule in (mitigation.requirements.distributed_state or {}).items():
                if rule == "gather":
                    mitigation.state[name] = merge_rows(mitigation.state[name], self._own_rows)
                else:
                    distributed.all_reduce(mitigation.state[name])


def merge_rows(values: Tensor, own_rows: Tensor) -> Tensor:
    """Take from each process the rows that it has changed.

    Args:
        values: (N, ...) values of this process.
        own_rows: (N,) bool, rows that this process has changed; no two processes change the same row.

    Returns:
        (N, ...) values that are the same in every process. Rows that no process has changed stay as they are.
    """
    shape = (-1, *[1] * (values.ndim - 1))
    # Every row has one owner, and adding zeros is exact, so that its values arrive unrounded.
    summed = torch.where(own_rows.view(shape), values, torch.zeros_like(values))
    distributed.all_reduce(summed)
    # An integer type, since not every backend can reduce booleans.
    changed = own_rows.to(torch.uint8)
    distributed.all_reduce(changed)
    return torch.where(changed.view(shape) > 0, summed, values)
