"""Several networks, one prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch
from noisybench.training.mitigation import Mitigation, Objective

if TYPE_CHECKING:
    from noisybench.training.task import Task


class Ensemble(Mitigation):
    """Trains several networks by the rest of the stack and deploys their mean prediction.

    The fair rival of two-network methods: `ensemble+cross_entropy`, `ensemble+mixup`. The members start from other
    weights and see the same batches; what stands after it in the stack is done for each of them, what stands before it
    once for all, so that in `ensemble+mixup` each mixes for itself.
    """

    repeats = True

    members: int = parameter(2, ge=2, le=16, help="how many networks")

    @property
    def networks(self) -> int:
        """All members."""
        return self.members

    @property
    def ensemble(self) -> bool:
        """Always."""
        return True

    def wrap(self, task: Task, batch: Batch, objective: Objective) -> Tensor:
        """The sum of the members' objectives; no member has a gradient from another's."""
        total = None
        for member in range(self.members):
            task.active = member
            loss = objective(batch)
            total = loss if total is None else total + loss
        task.active = 0
        assert total is not None
        return total
