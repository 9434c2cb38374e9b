"""Data-parallel training of one run: every device trains on its shard of each batch, and all reach the same weights.

Every process draws the complete batch with its augmentation from the same named streams, and takes its shard.
Gradients are summed before each step, and the state that mitigations keep per example is combined after each epoch, so
that the result is that of one process up to rounding. Lightning Fabric connects the processes.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import find_free_network_port
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import distributed

from noisybench.config.spec import RunSpec
from noisybench.errors import TrainingError
from noisybench.utils.processes import process_context, start_process


class LocalProcesses(ClusterEnvironment):
    """Processes on this machine that noisybench itself starts.

    It is given explicitly, since Fabric would otherwise detect a Slurm job and count that job's processes.

    Args:
        rank: number of this process.
        port: port on which the processes meet.
    """

    # Otherwise Fabric would start the processes itself, by running the command line again.
    creates_processes_externally, main_address = True, "127.0.0.1"

    def __init__(self, rank: int, port: int) -> None:
        super().__init__()
        # Fabric sets the number of processes from its own arguments before it connects them.
        self._rank, self._world_size, self._port = rank, 1, port

    @property
    def main_port(self) -> int:
        """Port on which the processes meet."""
        return self._port

    @staticmethod
    def detect() -> bool:
        """Return False: this environment is never chosen automatically."""
        return False

    def world_size(self) -> int:
        """Return the number of processes."""
        return self._world_size

    def set_world_size(self, size: int) -> None:
        """Set the number of processes."""
        self._world_size = size

    def global_rank(self) -> int:
        """Return the number of this process."""
        return self._rank

    def set_global_rank(self, rank: int) -> None:
        """Set the number of this process."""
        self._rank = rank

    def local_rank(self) -> int:
        """Return the number of this process."""
        return self._rank

    def node_rank(self) -> int:
        """Return 0, the number of the only machine."""
        return 0


@contextlib.contextmanager
def launch_distributed(
    spec: RunSpec, train_worker: Callable[..., None], arguments: Sequence[Any], worker: tuple[int, int] | None = None
) -> Iterator[Fabric]:
    """Start the worker processes of a run, and yield the Fabric that connects this process with them.

    Args:
        spec: specification of the run; with one device no process is started.
        train_worker: body of a worker process; it is called with ``arguments``, its rank and the port.
        arguments: picklable arguments.
        worker: rank and port of a worker process; None in the main process.

    Raises:
        TrainingError: the machine has fewer GPUs than the budget needs.
    """
    devices, accelerator = spec.budget.devices, spec.execution.device
    if devices == 1:
        yield Fabric(accelerator=accelerator, devices=1)
        return
    on_gpu = accelerator in ("auto", "cuda") and torch.cuda.is_available()
    if on_gpu and torch.cuda.device_count() < devices:
        raise TrainingError(f"budget.devices: the run needs {devices} GPUs, but only {torch.cuda.device_count()} exist")
    for package in ("lightning_fabric", "pytorch_lightning"):  # either may announce the connection of the processes
        logging.getLogger(package).setLevel(logging.WARNING)
    # The main process finds a free port, so that several runs on one machine do not collide.
    rank, port = worker or (0, find_free_network_port())
    context, processes = process_context(), []
    if worker is None:
        for number in range(1, devices):
            processes.append(start_process(context, train_worker, (*arguments, number, port)))
    try:
        fabric = Fabric(
            accelerator="cuda" if on_gpu else "cpu",
            devices=devices,
            strategy=DDPStrategy(cluster_environment=LocalProcesses(rank, port)),
        )
        # Returns only when all processes have connected.
        fabric.launch()
        yield fabric
        for process in processes:
            process.join()
    finally:
        # After an error here the workers would wait in a collective operation forever, so that they are killed.
        if distributed.is_initialized():
            distributed.destroy_process_group()
        for process in processes:
            process.kill()
