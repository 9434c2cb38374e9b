"""Segmentation networks of an audit: one per fold, and their predictions for the images that they were not trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from noisybench.audit.folds import EpochCallback, draw_folds, fold_key, prepare_device, train_tasks
from noisybench.audit.masks.inputs import MaskAuditInput
from noisybench.config.registry import get_entry
from noisybench.config.spec import WORKSPACE
from noisybench.data.lazy import MemmapImages
from noisybench.training.stack import Stack
from noisybench.training.task import Task
from noisybench.training.training_set import DiskTensor, TrainingSet
from noisybench.utils.seeds import torch_seed


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
    device = prepare_device(spec)
    key = fold_key(training_set, spec.budget, folds, seed, __name__, "segmentation")
    training_set.move_to(device)

    def build(fold: int) -> Task:
        task: Task = get_entry("tasks", "segmentation").load_class()(
            spec.budget, torch_seed("audit masks", seed, fold), training_set, Stack([]), **spec.task.parameters
        )
        task.num_workers = spec.execution.num_workers
        task.to(device)
        return task

    return FoldNetworks(train_tasks(build, fold_of, folds, cache_dir / key, on_epoch), fold_of)
