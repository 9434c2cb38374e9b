"""Label smoothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch
from noisybench.training.mitigation import Mitigation, Objective

if TYPE_CHECKING:
    from noisybench.training.task import Task


class LabelSmoothing(Mitigation):
    """Targets mixed with the uniform distribution: (1 - smoothing) t + smoothing / C.

    Szegedy et al. 2016; against label noise Lukasik et al. 2020.
    """

    tasks = ("classification", "segmentation", "chain_of_thought")
    distributed_state = {}

    smoothing: float = parameter(0.1, ge=0, lt=1, low=0.02, high=0.6, help="share of the uniform distribution")

    def wrap(self, task: Task, batch: Batch, objective: Objective) -> Tensor:
        """The rest of the stack on smoothed targets."""
        return objective(batch.with_targets(batch.targets * (1 - self.smoothing) + self.smoothing / batch.num_classes))
