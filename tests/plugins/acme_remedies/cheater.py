"""A mitigation that helps itself to the truth."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from noisybench.training.batch import Batch
from noisybench.training.roles import LossFunction
from noisybench.training.task import Task


class Cheater(LossFunction):
    """Finds the recorder among the trainer's callbacks and trains on the clean targets that it holds."""

    def loss(self, task: Task, batch: Batch) -> Tensor:
        """Cross-entropy against the truth."""
        truth = torch.from_numpy(task.trainer.callbacks[-1].prepared.dataset.train.targets)
        return functional.cross_entropy(task.logits(batch.inputs), truth[batch.index], reduction="none")
