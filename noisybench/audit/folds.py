"""Folds of an audit: each is held out by a task that is trained on all others, and kept when it is finished."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from noisybench.config.budget import Budget
from noisybench.config.registry import get_entry
from noisybench.config.source_code import SourceTree
from noisybench.config.spec import RunSpec
from noisybench.errors import UserError
from noisybench.training.loop import train_epoch
from noisybench.training.task import Task
from noisybench.training.training_set import TrainingSet
from noisybench.utils.allocator import keep_freed_memory
from noisybench.utils.files import load_saved, saved_bytes, write_atomically
from noisybench.utils.seeds import Stream, use_deterministic_kernels

EpochCallback = Callable[[int, int, float], None]
"""Function that receives fold, epoch and mean training loss after each epoch."""


def draw_folds(size: int, folds: int, seed: int) -> NDArray[np.int64]:
    """Return the (N,) fold of each example; the same call gives the same folds.

    Raises:
        UserError: there are fewer examples than folds.

    Example:
        >>> sorted(draw_folds(7, 3, 0).tolist())
        [0, 0, 0, 1, 1, 2, 2]
    """
    if folds > size:
        raise UserError(f"--folds: {size} examples cannot be divided into {folds} folds")
    fold_of = np.empty(size, dtype=np.int64)
    # Fold sizes differ by at most one, and the named stream gives the same folds to a resumed audit.
    fold_of[Stream("audit", seed).permutation(size)] = np.arange(size) % folds
    return fold_of


def prepare_device(spec: RunSpec) -> torch.device:
    """Prepare this process for training as a run would be, and return the device."""
    device = torch.device("cuda" if torch.cuda.is_available() and spec.execution.device != "cpu" else "cpu")
    torch.set_num_threads(spec.num_threads)
    keep_freed_memory()
    use_deterministic_kernels(device)
    return device


def fold_key(training_set: TrainingSet, budget: Budget, folds: int, seed: int, module: str, task: str) -> str:
    """Return a digest of everything that decides the weights: an audit of changed labels never reuses folds of the old ones.

    Args:
        training_set: inputs and observed targets.
        budget: network, epochs, augmentation.
        folds: number of folds.
        seed: random seed of folds and networks.
        module: module that trains the folds.
        task: registered name of the task.
    """
    network = get_entry("networks", budget.network.partition(":")[0])
    modules = {"audit": module, "task": get_entry("tasks", task).module, "network": network.module}
    content = [
        training_set.inputs_digest,
        training_set.targets_digest,
        training_set.num_classes,
        budget.identity(),
        folds,
        seed,
        SourceTree().code(modules),
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]


def train_without_fold(task: Task, fold_of: NDArray[np.int64], fold: int, on_epoch: EpochCallback) -> None:
    """Train a task on the examples of all other folds.

    Args:
        task: task on its device, whose training set has the examples of all folds.
        fold_of: (N,) fold of each example.
        fold: fold to hold out.
        on_epoch: function that receives fold, epoch and mean training loss.
    """
    # Held-out examples stay in the training set with weight 0, so that their positions are those of the whole set.
    task.sampler.weights = torch.from_numpy(fold_of != fold).to(task.device).float()
    optimizer = task.configure_optimizers()
    for epoch in range(task.budget.epochs):
        train_epoch(task, optimizer, epoch)
        on_epoch(fold, epoch, task.train_loss)


def finished_fold(path: Path, names: tuple[str, ...], train: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the results of a finished fold, which is trained if there is no file of it.

    Args:
        path: file of the fold.
        names: names of the results.
        train: function that trains the fold and returns its results.
    """
    saved = load_saved(path, names)
    if saved is None:
        saved = train()
        # Atomic, because the existence of the file marks the fold as finished.
        write_atomically(path, saved_bytes(saved))
    return saved


def train_tasks(
    build: Callable[[int], Task], fold_of: NDArray[np.int64], folds: int, file: Path, on_epoch: EpochCallback
) -> tuple[Task, ...]:
    """Return the trained task of each fold.

    Args:
        build: function that returns the task of a fold on its device, with initial weights.
        fold_of: (N,) fold of each example.
        folds: number of folds.
        file: start of the path of the files of finished folds.
        on_epoch: function that receives fold, epoch and mean training loss.
    """
    tasks = []
    for fold in range(folds):
        task = build(fold)

        def train(task: Task = task, fold: int = fold) -> dict[str, Any]:
            train_without_fold(task, fold_of, fold, on_epoch)
            return {"weights": {name: values.cpu() for name, values in task.networks.state_dict().items()}}

        saved = finished_fold(file.with_name(f"{file.name}-{fold}.pt"), ("weights",), train)
        task.networks.load_state_dict(saved["weights"])
        tasks.append(task)
    return tuple(tasks)
