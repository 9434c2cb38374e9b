"""Error norms early in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from noisybench.config.parameters import parameter
from noisybench.mitigations._pruning import Pruning, beyond_schedule
from noisybench.mitigations._scores import EarlyScores
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class EL2N(Pruning):
    """Leaves out examples by the norm of their error after a few epochs (Paul et al. 2021).

    The score is the Euclidean norm of predicted probabilities minus the one-hot observed label, averaged over
    several networks trained for a few epochs by the run's own recipe, on all labels as they are. On clean data the paper
    keeps the highest scores; with wrong labels these gather at the very top, so here the highest are dropped, or a
    window is kept. `keep_highest` is for comparison only: under noise it trains on the wrong labels.

    A score loses its worth once wrong labels are learned by heart: how many epochs matters more than how many networks.
    Without `keep`, two Gaussian components of the scores decide, which is ours; the paper tunes both ends of the window.
    Pruned runs make as many gradient steps as others (`equal: steps`), as in the paper. Scores do not change with the
    run's seed: all runs of a cell share them, and each is charged for them.
    """

    members: int = parameter(10, ge=1, low=1, high=10, help="networks whose scores are averaged")
    epochs: int = parameter(10, ge=1, low=2, high=20, help="epochs that each is trained before it scores")
    score_seed: int = parameter(0, ge=0, help="of the scoring networks; the run's seed does not change it")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Two components, a window, and a given rate within each class."""
        quick = {"members": 2, "epochs": 1}
        return (
            {**quick, "allow_empty_classes": True},
            {**quick, "rule": "window", "keep": 0.6, "offset": 0.1, "per_class": True},
            {**quick, "noise_rate": "given", "equal": "epochs", "allow_empty_classes": True},
        )

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """Scores are taken within the schedule."""
        return super().check(network, budget, examples) + beyond_schedule(self.epochs, budget)

    def score(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Mean over the networks."""
        return task.auxiliary(EarlyScores(task, self.members, self.epochs, self.score_seed))["el2n"].mean(0)
