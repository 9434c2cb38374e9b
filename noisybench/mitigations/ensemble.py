"""Several networks, one prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch
from noisybench.training.mitigation import BatchLoss, Requirements
from noisybench.training.roles import LossWrapper

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class Ensemble(LossWrapper):
    """Trains several networks by the rest of the stack and deploys their mean prediction.

    The fair rival of two-network methods: `ensemble+cross_entropy`, `ensemble+mixup`. The members start from other
    weights and see the same batches; what stands after it in the stack is done for each of them, what stands before it
    once for all, so that in `ensemble+mixup` each mixes for itself.
    """

    members: int = parameter(2, ge=2, le=16, help="how many networks")

    @property
    def requirements(self) -> Requirements:
        """All members, deployed together."""
        return Requirements(networks=self.members, ensemble=True, trains_copies=True)

    def wrap_loss(self, task: Learner, batch: Batch, inner_loss: BatchLoss) -> Tensor:
        """The sum of the members' objectives; no member has a gradient from another's."""
        total = None
        for member in range(self.members):
            task.active_network = member
            loss = inner_loss(batch)
            total = loss if total is None else total + loss
        task.active_network = 0
        assert total is not None
        return total
