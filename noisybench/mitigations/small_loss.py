"""Small loss early in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from noisybench.config.parameters import parameter
from noisybench.mitigations._pruning import Pruning, beyond_schedule
from noisybench.mitigations._scores import EarlyScores
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class SmallLoss(Pruning):
    """Leaves out examples by their cross-entropy after a few epochs, the simplest rival of other scores.

    Rules and settings are those of `el2n`; with the same number of networks and epochs both share these networks.
    """

    members: int = parameter(1, ge=1, low=1, high=10, help="networks whose losses are averaged")
    epochs: int = parameter(10, ge=1, low=2, high=20, help="epochs that each is trained before it scores")
    score_seed: int = parameter(0, ge=0, help="of the scoring networks; the run's seed does not change it")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """One epoch."""
        return ({"epochs": 1, "per_class": True, "keep": 0.7},)

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """Scores are taken within the schedule."""
        return super().check(network, budget, examples) + beyond_schedule(self.epochs, budget)

    def score(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Mean over the networks, in nats."""
        return task.auxiliary(EarlyScores(task, self.members, self.epochs, self.score_seed))["loss"].mean(0)
