"""A mitigation that reads clean labels without declaring them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from noisybench.training.batch import Batch
from noisybench.training.roles import LossFunction
from noisybench.training.task import Task


class Cheater(LossFunction):
    """Train on the clean targets that the recorder holds, found among the trainer's callbacks."""

    def loss(self, task: Task, batch: Batch) -> Tensor:
        """Return cross-entropy against the clean labels."""
        clean = torch.from_numpy(task.trainer.callbacks[-1].prepared.dataset.train.targets)
        return functional.cross_entropy(task.logits(batch.inputs), clean[batch.index], reduction="none")
