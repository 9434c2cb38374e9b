"""Forgetting events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from noisybench.config.parameters import parameter
from noisybench.mitigations._pruning import Pruning, beyond_schedule
from noisybench.mitigations._scores import Watched
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class Forgetting(Pruning):
    """Leaves out examples by how often a right prediction became wrong while they were trained on (Toneva et al. 2019).

    An example that was never right counts as forgotten once more than is possible: without that rule, wrong labels, which are
    learned late, would look unforgettable at first. Predictions are those of the training steps. Counts have many
    ties, which go by position. By default it watches for the whole budget, which doubles the cost.
    """

    members: int = parameter(1, ge=1, low=1, high=10, help="networks whose counts are averaged")
    epochs: int | None = parameter(None, ge=1, help="epochs that each is trained; without it, all of the budget's")
    score_seed: int = parameter(0, ge=0, help="of the scoring networks; the run's seed does not change it")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Two epochs."""
        return ({"epochs": 2, "keep": 0.7, "per_class": True},)

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """Events are counted within the schedule."""
        return super().check(network, budget, examples) + beyond_schedule(self.epochs, budget)

    def score(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Mean over the networks."""
        length = self.epochs or task.budget.epochs
        found = task.auxiliary(Watched(task, self.members, length, self.score_seed))
        return found["forgotten"].masked_fill(~found["learned"], float(length)).mean(0)
