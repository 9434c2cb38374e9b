"""Gradient norms early in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from noisybench.config.parameters import parameter
from noisybench.mitigations._pruning import Pruning, beyond_schedule
from noisybench.mitigations._scores import EarlyScores
from noisybench.nn.features import classifier
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class GraNd(Pruning):
    """Leaves out examples by the norm of their loss gradient after a few epochs (Paul et al. 2021).

    The score is the norm of the cross-entropy's gradient with respect to all weights (`gradient: exact`), or to the
    classifier's alone in closed form, error norm times sqrt(features^2 + 1), which costs no backward pass and is what some
    libraries call GraNd. It is averaged over several networks, as in `el2n`, whose rules and settings are the same.

    With `epochs: 0` the networks score as they are initialised. The paper's claim for that did not reproduce: such a
    score is little more than the norm of the input (Kirsch 2023), and no better than random. The first epoch's
    row has the rank correlation of every score with that norm.
    """

    gradient: Literal["exact", "last_layer"] = parameter(
        "exact", help="with respect to all weights, or the classifier's"
    )
    members: int = parameter(10, ge=1, low=1, high=10, help="networks whose scores are averaged")
    epochs: int = parameter(10, ge=0, low=2, high=20, help="epochs that each is trained before it scores")
    score_seed: int = parameter(0, ge=0, help="of the scoring networks; the run's seed does not change it")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Exact, in closed form, and before any training."""
        quick = {"members": 2, "epochs": 1, "keep": 0.8}
        return (
            {**quick, "per_class": True},
            {**quick, "gradient": "last_layer", "rule": "keep_highest", "allow_empty_classes": True},
            {**quick, "epochs": 0, "per_class": True},
        )

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """Scores are taken within the schedule, and the classifier is linear where it alone counts."""
        problems = super().check(network, budget, examples) + beyond_schedule(self.epochs, budget)
        if self.gradient == "last_layer" and classifier(network) is None:
            problems.append(f"gradient: `{budget.network}` has no linear classifier; take exact gradients")
        return problems

    def score(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Mean over the networks."""
        exact = self.gradient == "exact"
        found = task.auxiliary(EarlyScores(task, self.members, self.epochs, self.score_seed, exact))
        return found["grand" if exact else "grand_last"].mean(0)

    def sample_weights(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """As the rule says; and how far the score is the norm of the input."""
        self.diagnostics["input_norm_correlation"] = rank_correlation(
            self.state["score"], input_norms(task, training_set)
        )
        return super().sample_weights(task, training_set)


def input_norms(task: Learner, training_set: TrainingSet) -> Tensor:
    """(N,) Euclidean norms of the normalised inputs."""
    size = task.eval_batch_size(training_set.inputs)
    starts = range(0, len(training_set), size)
    portions = (task.normalize(training_set.inputs[start : start + size]) for start in starts)
    return torch.cat([each.flatten(1).norm(dim=1) for each in portions])


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Spearman's rank correlation of two (N,) tensors; 0 where one is constant."""
    from scipy.stats import rankdata

    ranks = torch.stack([torch.from_numpy(rankdata(each.cpu().numpy())) for each in (first, second)])
    return float(torch.corrcoef(ranks)[0, 1].nan_to_num())
