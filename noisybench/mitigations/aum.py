"""Area under the margin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from noisybench.config.parameters import parameter
from noisybench.mitigations._detection import Components
from noisybench.mitigations._pruning import Pruning, beyond_schedule
from noisybench.mitigations._scores import Watched
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import Stream

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class AUM(Pruning):
    """Leaves out examples by the mean margin of their observed class while they are trained on (Pleiss et al. 2020).

    The margin is the observed class's score minus the greatest other one, in every training step. Two networks are trained;
    for each another 1/(C+1) of the examples is put into a class that does not exist, and a percentile of their
    margins is the threshold below which it takes a label for wrong. The score is threshold minus margin, averaged over the
    networks for which the example kept its label; without `keep` or a given rate, what is above zero is left out.
    """

    epochs: int | None = parameter(None, ge=1, help="epochs that each is trained; without it, all of the budget's")
    percentile: float = parameter(99.0, gt=0, le=100, low=90.0, high=100.0, help="of the false class's margins")
    score_seed: int = parameter(0, ge=0, help="of the scoring networks; the run's seed does not change it")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """The threshold, and a share."""
        return {"epochs": 2, "allow_empty_classes": True, "percentile": 10.0}, {
            "epochs": 1,
            "keep": 0.7,
            "per_class": True,
        }

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """Margins are measured within the schedule."""
        return super().check(network, budget, examples) + beyond_schedule(self.epochs, budget)

    def score(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Threshold minus margin."""
        length = self.epochs or task.budget.epochs
        run = _WithFalseClass(task, length, self.score_seed)
        return threshold_scores(task.auxiliary(run)["margin"], run.falsified, self.percentile)

    def automatic(self, task: Learner, score: Tensor) -> tuple[Tensor, Components | None]:
        """Above zero, the margin is below the threshold."""
        return score > 0, None


def threshold_scores(margins: Tensor, falsified: Tensor, percentile: float) -> Tensor:
    """(N,) threshold minus margin, over the networks for which an example kept its label.

    Args:
        margins: (2, N) mean margins.
        falsified: (2, N) bool, who was in the class that does not exist; no example in both.
        percentile: of their margins, the threshold of each network.
    """
    scores = torch.zeros_like(margins)
    for place, (margin, false) in enumerate(zip(margins, falsified, strict=True)):
        scores[place] = torch.quantile(margin[false], percentile / 100) - margin
    kept = (~falsified).float()
    return (scores * kept).sum(0) / kept.sum(0)


class _WithFalseClass(Watched):
    """Two networks with one class more, to which other examples belong each time."""

    def __init__(self, task: Learner, length: int, seed: int) -> None:
        super().__init__(task, 2, length, seed)
        self.cache_key["kind"] = "watched with a false class"
        data = task.training_set
        # At least one, or there would be no threshold.
        size = max(1, len(data) // (data.num_classes + 1))
        order = torch.from_numpy(Stream("false class", seed).permutation(len(data)))
        self.falsified = torch.zeros(2, len(data), dtype=torch.bool)
        for member in range(2):
            self.falsified[member, order[member * size : (member + 1) * size]] = True

    def training_set(self, member: int) -> TrainingSet:
        """With the false class."""
        data = self.task.training_set
        changed = data.targets.masked_fill(self.falsified[member].to(data.targets.device), data.num_classes)
        return TrainingSet(data.inputs, changed, data.num_classes + 1)
