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
from typing import Any

import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch import distributed

from noisybench.config.spec import RunSpec
from noisybench.errors import TrainingError
from noisybench.utils.processes import process_context

RANK = "LOCAL_RANK"
"""Variable by which Lightning knows that a process is one of several, and which."""


class ManualDDPStrategy(DDPStrategy):
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
        raise TrainingError(f"budget.devices: {devices} GPUs are asked for, but there are {torch.cuda.device_count()}")
    # Not what Lightning finds: within a job of Slurm it would count that job's processes.
    told: dict[str, Any] = {"devices": devices, "strategy": ManualDDPStrategy(), "sync_batchnorm": on_gpu}
    told["plugins"] = [LightningEnvironment()]
    if RANK in os.environ:
        yield told
        return
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(devices)}
    forking = process_context(spec.execution.num_threads)
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
