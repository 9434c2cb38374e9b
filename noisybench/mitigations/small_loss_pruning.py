"""Small-loss pruning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from noisybench.config.fidelity import Fidelity
from noisybench.config.parameters import parameter
from noisybench.mitigations._pruning import ScorePruning, check_schedule
from noisybench.mitigations._scores import EarlyScores
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class SmallLossPruning(ScorePruning):
    """Prune by the cross-entropy of examples after a few epochs.

    This is the simplest baseline for other scores. Strategies and parameters are those of `el2n`; with the same number
    of networks and epochs, both share their scoring networks.
    """

    fidelity = Fidelity(
        reference="",
        commit="",
        compared="there is no public reference; the tests hold the loss to that of single examples, and the choice of "
        "examples to a slow one",
    )

    num_networks: int = parameter(1, ge=1, low=1, high=10, help="Number of networks whose losses are averaged")
    epochs: int = parameter(10, ge=1, low=2, high=20, help="Training epochs of each network before it scores")
    score_seed: int = parameter(0, ge=0, help="Random seed of the scoring networks (independent of `seed`)")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return one epoch, pruned within each class."""
        return ({"epochs": 1, "per_class": True, "keep_fraction": 0.7},)

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """Check that the networks are scored within the schedule."""
        return super().check(network, budget, examples) + check_schedule(self.epochs, budget)

    def score(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return the (N,) mean cross-entropy over the networks, in nats."""
        run = EarlyScores(task, self.num_networks, self.epochs, self.score_seed)
        return task.auxiliary(run)["loss"].mean(0)
