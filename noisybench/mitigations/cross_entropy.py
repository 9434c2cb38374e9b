"""No remedy: the baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from noisybench.training.batch import Batch
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import LossFunction

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class CrossEntropy(LossFunction):
    """No remedy: the task's plain objective, cross-entropy for classification. The baseline of every table."""

    tasks = ("classification", "segmentation", "chain_of_thought")

    @property
    def requirements(self) -> Requirements:
        """Data-parallel training is supported, without any state."""
        return Requirements(distributed_state={})

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """The plain objective."""
        return task.default_loss(batch)
