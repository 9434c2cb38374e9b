"""Segmentation networks of an audit: one per fold, and their predictions for the images that they were not trained on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisybench.audit.masks.inputs import MaskAuditInput
from noisybench.audit.signals import EpochCallback, draw_folds
from noisybench.config.registry import get_entry
from noisybench.config.source_code import SourceTree
from noisybench.config.spec import WORKSPACE, RunSpec
from noisybench.data.lazy import MemmapImages
from noisybench.training.loop import train_epoch
from noisybench.training.stack import Stack
from noisybench.training.task import Task
from noisybench.training.training_set import DiskTensor, TrainingSet
from noisybench.utils.allocator import keep_freed_memory
from noisybench.utils.files import load_saved, saved_bytes, write_atomically
from noisybench.utils.seeds import torch_seed, use_deterministic_kernels


@dataclass(frozen=True)
class FoldNetworks:
    """Networks of all folds, whose out-of-fold predictions are computed on demand.

    Probabilities of every class and pixel would not fit in memory, and computing them is cheap beside training.

    Attributes:
        tasks: trained task of each fold.
        fold_of: (N,) fold of each image.
    """

    tasks: tuple[Task, ...]
    fold_of: NDArray[np.int64]

    def predictions(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield positions of images and their (B, C, H, W) probabilities by the network not trained on them."""
        for fold, task in enumerate(self.tasks):
            held_out, inputs = np.flatnonzero(self.fold_of == fold), task.training_set.inputs
            size = task.eval_batch_size(inputs)
            for start in range(0, len(held_out), size):
                rows = held_out[start : start + size]
                images = inputs[torch.from_numpy(rows).to(inputs.device)]
                for part, probabilities in task.predict_batches(images):
                    yield rows[part], probabilities.float().cpu().numpy()


def train_fold_networks(
    audit_input: MaskAuditInput,
    folds: int = 3,
    seed: int = 0,
    on_epoch: EpochCallback = lambda fold, epoch, loss: None,
    cache_dir: Path = WORKSPACE / "audits",
) -> FoldNetworks:
    """Train one segmentation network per fold on the masks of all other folds.

    Finished folds are kept in the working directory, so that the same call resumes an interrupted audit.

    Args:
        audit_input: images and masks to audit.
        folds: number of folds, from 2.
        seed: random seed of folds and networks.
        on_epoch: function that receives fold, epoch and mean training loss.
        cache_dir: folder of finished folds, which are not trained again.

    Raises:
        UserError: there are fewer images than folds.
    """
    spec, fold_of = audit_input.spec, draw_folds(len(audit_input.masks), folds, seed)
    images: Any = audit_input.images
    training_set = TrainingSet(
        DiskTensor(images) if isinstance(images, MemmapImages) else torch.from_numpy(images),
        torch.from_numpy(audit_input.masks),
        len(audit_input.class_names),
        class_names=audit_input.class_names,
        has_background=audit_input.has_background,
    )
    device = torch.device("cuda" if torch.cuda.is_available() and spec.execution.device != "cpu" else "cpu")
    torch.set_num_threads(spec.num_threads)
    keep_freed_memory()
    use_deterministic_kernels(device)
    key = _cache_key(training_set, spec, folds, seed)
    training_set.move_to(device)
    tasks = []
    for fold in range(folds):
        path = cache_dir / f"{key}-{fold}.pt"
        task: Task = get_entry("tasks", "segmentation").load_class()(
            spec.budget, torch_seed("audit masks", seed, fold), training_set, Stack([]), **spec.task.parameters
        )
        task.num_workers = spec.execution.num_workers
        task.to(device)
        saved = load_saved(path, ("weights",))
        if saved is None:
            weights = _train(task, torch.from_numpy(fold_of != fold).to(device), fold, on_epoch)
            # Atomic, because the existence of the file marks the fold as finished.
            write_atomically(path, saved_bytes({"weights": weights}))
        else:
            task.networks.load_state_dict(saved["weights"])
        tasks.append(task)
    return FoldNetworks(tuple(tasks), fold_of)


def _train(task: Task, trained_on: Tensor, fold: int, on_epoch: EpochCallback) -> dict[str, Tensor]:
    """Train the network of a task on some of its images; return its weights."""
    # Held-out images stay in the training set with weight 0, so that their positions are those of the whole set.
    task.sampler.weights = trained_on.float()
    optimizer = task.configure_optimizers()
    for epoch in range(task.budget.epochs):
        train_epoch(task, optimizer, epoch)
        on_epoch(fold, epoch, task.train_loss)
    return {name: weights.cpu() for name, weights in task.networks.state_dict().items()}


def _cache_key(training_set: TrainingSet, spec: RunSpec, folds: int, seed: int) -> str:
    """Return a digest of everything that decides the weights: an audit of changed masks never reuses folds of the old ones."""
    network = get_entry("networks", spec.budget.network.partition(":")[0])
    modules = {"audit": __name__, "task": get_entry("tasks", "segmentation").module, "network": network.module}
    content = [
        training_set.inputs_digest,
        training_set.targets_digest,
        training_set.num_classes,
        spec.budget.identity(),
        folds,
        seed,
        SourceTree().code(modules),
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]
