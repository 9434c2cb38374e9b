"""A mitigation that reads clean labels without declaring them."""

from __future__ import annotations

import gc

import torch
from torch import Tensor
from torch.nn import functional

from noisybench.training.batch import Batch
from noisybench.training.learner import Learner
from noisybench.training.prepared import PreparedRun
from noisybench.training.roles import LossFunction


class Cheater(LossFunction):
    """Train on the clean targets of the prepared run, found among all objects in memory."""

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return cross-entropy against the clean labels."""
        runs = [run for run in gc.get_objects() if type(run) is PreparedRun and self in run.stack.mitigations]
        clean = torch.from_numpy(runs[0].dataset.train.targets)
        return functional.cross_entropy(task.logits(batch.inputs), clean[batch.index], reduction="none")
