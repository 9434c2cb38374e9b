"""noisybench's own training loop: it drives the hooks of a task as a `Trainer` does, at the cost of a bare loop.

Evaluation, records and checkpoints are not part of it; `noisybench.runs` adds them between the epochs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from pytorch_lightning import Trainer

from noisybench.nn.joint_optimizer import PhaseOptimizer
from noisybench.training.task import Task


@dataclass
class LoopState:
    """The attributes of a `Trainer` that a task reads, when it trains in this loop.

    Attributes:
        current_epoch: number of the current epoch, from 0.
        global_rank: number of this process.
        world_size: number of processes, each with a device.
        strategy: strategy that knows the device.
        reload_dataloaders_every_n_epochs: set by the task; this loop asks for the batches of every epoch anyway.
    """

    current_epoch: int = 0
    global_rank: int = 0
    world_size: int = 1
    strategy: Any = None
    reload_dataloaders_every_n_epochs: int = 1


def attach(task: Task, fabric: Fabric) -> None:
    """Set up a task for training in this loop, on the device and with the rank of a Fabric."""
    state = LoopState(0, fabric.global_rank, fabric.world_size, fabric.strategy)
    task.trainer = cast(Trainer, state)
    task.setup("fit")


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Restore the state that an optimizer has collected; its settings are those of the budget and of the device.

    Args:
        optimizer: optimizer from `task.configure_optimizers`.
        state: its ``state_dict()``, of any device.
    """
    if isinstance(optimizer, PhaseOptimizer):
        optimizer.start(state["phase"])
    own = optimizer.state_dict()
    # Its own state stays where the other device had none, such as the momentum that fused kernels need from the start.
    optimizer.load_state_dict({**own, "state": {**own["state"], **state["state"]}})


def train_epoch(task: Task, optimizer: torch.optim.Optimizer, epoch: int) -> float:
    """Train one epoch, and return the mean training loss.

    Args:
        task: task whose networks are trained. A task that was not set up by `attach` trains on the device that holds it.
        optimizer: optimizer from `task.configure_optimizers`.
        epoch: number of the epoch, from 0; it decides the learning rate and all random numbers.

    Raises:
        TrainingError: the loss is not finite.

    Example:
        >>> from noisybench.config.budget import Budget
        >>> from noisybench.tasks.classification import Classification
        >>> from noisybench.training.stack import Stack
        >>> from noisybench.training.training_set import TrainingSet
        >>> images = torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8)
        >>> data = TrainingSet(images, torch.arange(8) % 2, num_classes=2)
        >>> task = Classification(Budget(network="mlp:4", batch_size=4), seed=0, training_set=data, stack=Stack([]))
        >>> optimizer = task.configure_optimizers()
        >>> train_epoch(task, optimizer, epoch=0) > 0
        True
    """
    # The private attribute, because Lightning's property `trainer` raises an error if there is none.
    if task._trainer is None:
        task.trainer = cast(Trainer, LoopState())
    cast(LoopState, task.trainer).current_epoch = epoch
    task.on_train_epoch_start()
    for batch_idx, batch in enumerate(task.train_dataloader()):
        loss = task.training_step(batch, batch_idx)
        # Between forward and backward pass, as in Lightning's closure. Without gradient tensors to fill with zeros,
        # the backward pass writes each gradient instead of adding to it.
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        task.on_after_backward()
        task.on_before_optimizer_step(optimizer)
        task.captured.step_optimizer(optimizer)
        task.on_train_batch_end(loss, batch, batch_idx)
    task.on_train_epoch_end()
    return task.train_loss
