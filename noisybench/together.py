"""One run on several devices: each trains on its share of every batch, and all come to the same weights.

Every process draws the whole batch with its augmentation, from the same named streams, and takes its share of it; gradients
are averaged before each step, and what mitigations keep per example is exchanged after each epoch. So the outcome is that of one
process, to rounding. The processes are Lightning's distributed data parallelism (DDP), but for its wrapper around the network,
which expects one backward pass in a Lightning step, where ours has an epoch of them.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, distributed, nn

from noisybench.errors import RunFailed
from noisybench.spec import RunSpec
from noisybench.workers import context

if TYPE_CHECKING:
    from noisybench.task import Task
    from noisybench.training_set import Batch

RANK = "LOCAL_RANK"
"""Variable by which Lightning knows that a process is one of several, and which."""


class Averaging(DDPStrategy):
    """Lightning's strategy without the wrapper: the training loop averages gradients itself."""

    def configure_ddp(self) -> None:
        """Leave the task as it is."""


@contextlib.contextmanager
def together(spec: RunSpec, body: Callable[..., None], arguments: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Have the other devices' processes train beside this one while inside.

    Args:
        spec: the run; with one device nothing happens.
        body: what a further process does, of which every process is one.
        arguments: of it.

    Yields:
        What Lightning's trainer needs to be told.

    Raises:
        RunFailed: there are not so many devices.
    """
    devices = spec.budget.devices
    if devices == 1:
        yield {"devices": 1}
        return
    on_gpu = spec.execution.device in ("auto", "cuda") and torch.cuda.is_available()
    if on_gpu and torch.cuda.device_count() < devices:
        raise RunFailed(f"budget.devices: {devices} GPUs are asked for, but there are {torch.cuda.device_count()}")
    # Not what Lightning finds: within a job of Slurm it would count that job's processes.
    told: dict[str, Any] = {"devices": devices, "strategy": Averaging(), "sync_batchnorm": on_gpu}
    told["plugins"] = [LightningEnvironment()]
    if RANK in os.environ:
        yield told
        return
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(devices)}
    forking = context(spec.execution.threads)
    others = [
        forking.Process(target=_other, args=({**common, RANK: str(rank)}, body, tuple(arguments)), daemon=True)
        for rank in range(1, devices)
    ]
    for each in others:
        each.start()
    os.environ.update({**common, RANK: "0"})
    try:
        yield told
        for each in others:
            each.join()
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
        for name in (*common, RANK):
            os.environ.pop(name, None)
        for each in others:
            each.kill()


def _other(environment: Mapping[str, str], body: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ.update(environment)
    body(*arguments)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def batch_statistics(network: nn.Module) -> bool:
    """Whether a network normalises by the batch, which processors cannot share."""
    return any(isinstance(each, nn.modules.batchnorm._BatchNorm) for each in network.modules())


class Shares:
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
            for name, how in (mitigation.across_devices or {}).items():
                values = mitigation.state[name]
                if how == "rows":
                    mitigation.state[name] = exchange_rows(values, self._own)
                else:
                    distributed.all_reduce(values)


def exchange_rows(values: Tensor, own: Tensor) -> Tensor:
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
