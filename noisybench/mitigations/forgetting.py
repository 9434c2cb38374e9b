"""Forgetting events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.mitigations._pruning import ScorePruning, check_schedule
from noisybench.mitigations._scores import TrainingDynamics
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class Forgetting(ScorePruning):
    """Prune by the number of times an example is forgotten during training.

    A forgetting event is a correct prediction that becomes incorrect (Toneva et al. 2019). An example that was never
    predicted correctly counts as forgotten in every epoch, which is about twice as often as is possible: without this
    rule, mislabeled examples, which are learned late, would at first look unforgettable. Predictions are those of the
    training steps. Counts have many ties, which are ordered by position. By default, events are counted over the whole
    budget, which doubles the cost.
    """

    fidelity = Fidelity(
        reference="https://github.com/mtoneva/example_forgetting",
        commit="d51c1aaa51c5a5cd3b8a584f8d5dee2c8957653e",
        license="MIT",
        compared="counts of 40 examples over 9 epochs and 2 networks, with examples that one or both never learn",
        difference="0 events",
        golden=("forgetting",),
        deviations=(
            Deviation(
                "a tie of the highest scores is never correct; the authors take the first of the classes",
                "no class is preferred",
                "examples with equal scores only",
            ),
            Deviation(
                "counts are averaged over the networks; the authors add them",
                "a unit that does not depend on their number",
                "a factor; no change of the order",
            ),
            Deviation(
                "by default the highest counts are dropped; the authors keep them",
                "under noise they are mislabeled examples",
                "`strategy=keep_highest` is the authors' on clean data",
            ),
        ),
    )

    num_networks: int = parameter(1, ge=1, low=1, high=10, help="Number of networks whose counts are averaged")
    epochs: int | None = parameter(None, ge=1, help="Training epochs of each network; by default those of the budget")
    score_seed: int = parameter(0, ge=0, help="Random seed of the scoring networks (independent of `seed`)")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return two epochs, pruned within each class."""
        return ({"epochs": 2, "keep_fraction": 0.7, "per_class": True},)

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """Check that events are counted within the schedule."""
        return super().check(network, budget, examples) + check_schedule(self.epochs, budget)

    def score(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return the (N,) mean number of forgetting events over the networks."""
        length = self.epochs or task.budget.epochs
        dynamics = task.auxiliary(TrainingDynamics(task, self.num_networks, length, self.score_seed))
        return dynamics["forgotten"].masked_fill(~dynamics["learned"], float(length)).mean(0)
