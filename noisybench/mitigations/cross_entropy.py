"""No remedy: the baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from noisybench.training.batch import Batch
from noisybench.training.mitigation import Mitigation

if TYPE_CHECKING:
    from noisybench.training.task import Task


class CrossEntropy(Mitigation):
    """No remedy: the task's plain objective, cross-entropy for classification. The baseline of every table."""

    tasks = ("classification", "segmentation", "chain_of_thought")
    distributed_state = {}

    def objective(self, task: Task, batch: Batch) -> Tensor:
        """The plain objective."""
        return task.plain_objective(batch)
