"""GraNd scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.mitigations._pruning import ScorePruning, check_schedule
from noisybench.mitigations._scores import EarlyScores
from noisybench.nn.features import last_linear
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class GraNd(ScorePruning):
    """Prune by the gradient norm of examples after a few epochs (GraNd).

    The score is the norm of the cross-entropy's gradient with respect to all weights (`gradient: exact`), or with
    respect to the classifier only (Paul et al. 2021). The latter has a closed form, error norm times
    sqrt(|features|^2 + 1), which needs no backward pass and is called GraNd by some libraries. Scores are averaged over
    several networks as in `el2n`, with the same strategies and parameters.

    With `epochs: 0`, the networks score as initialized. The paper's claim about that did not reproduce: the score is
    then little more than the norm of the input and no better than random (Kirsch 2023). The row of the first epoch
    reports the rank correlation of the scores with that norm.
    """

    fidelity = Fidelity(
        formula="score = ‖∇ CE(p, y)‖₂ over all weights,  last_layer: ‖p - y‖₂ · √(‖f‖² + 1)",
        reference="https://github.com/mansheej/data_diet",
        commit="aee462eab93aa0fb14c1ddfeba45d645b85a5fbb",
        license="Apache-2.0",
        compared="scores of 24 examples with respect to all weights under a convolutional network with batch "
        "normalization",
        difference="4.8e-8 of the score",
        golden=("data_diet",),
        deviations=(
            Deviation(
                "by default the highest scores are dropped; the authors keep them",
                "under noise they are mislabeled examples",
                "`strategy=keep_highest` is the authors' on clean data",
            ),
            Deviation(
                "how much is dropped without `keep_fraction` is decided by a mixture of two Gaussian distributions; "
                "the authors give the fraction",
                "no fraction is known under noise",
                "which examples are kept, unless `keep_fraction` is given",
            ),
        ),
    )

    gradient: Literal["exact", "last_layer"] = parameter(
        "exact", help="Weights of the gradient: all of them, or those of the classifier"
    )
    num_networks: int = parameter(10, ge=1, low=1, high=10, help="Number of networks whose scores are averaged")
    epochs: int = parameter(10, ge=0, low=2, high=20, help="Training epochs of each network before it scores")
    score_seed: int = parameter(0, ge=0, help="Random seed of the scoring networks (independent of `seed`)")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return exact gradients, the closed form, and scores before training."""
        quick = {"num_networks": 2, "epochs": 1, "keep_fraction": 0.8}
        return (
            {**quick, "per_class": True},
            {**quick, "gradient": "last_layer", "strategy": "keep_highest", "allow_empty_classes": True},
            {**quick, "epochs": 0, "per_class": True},
        )

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """Check the schedule, and that the classifier is linear if only its gradient counts."""
        problems = super().check(network, budget, examples) + check_schedule(self.epochs, budget)
        if self.gradient == "last_layer" and last_linear(network) is None:
            problems.append(f"gradient: `{budget.network}` has no linear classifier; set gradient=exact")
        return problems

    def score(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return the (N,) mean gradient norm over the networks."""
        exact = self.gradient == "exact"
        scores = task.auxiliary(EarlyScores(task, self.num_networks, self.epochs, self.score_seed, exact))
        return scores["grand" if exact else "grand_last"].mean(0)

    def sample_weights(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return the weights of the strategy, and report the rank correlation of the scores with the input norm."""
        norms = input_norms(task, training_set)
        self.diagnostics["input_norm_correlation"] = rank_correlation(self.state["score"], norms)
        return super().sample_weights(task, training_set)


def input_norms(task: Learner, training_set: TrainingSet) -> Tensor:
    """Return the (N,) Euclidean norms of the normalized inputs."""
    size = task.eval_batch_size(training_set.inputs)
    starts = range(0, len(training_set), size)
    # A generator: only one batch of normalized inputs is in memory at a time.
    parts = (task.normalize(training_set.inputs[start : start + size]) for start in starts)
    return torch.cat([part.flatten(1).norm(dim=1) for part in parts])


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Return Spearman's rank correlation of two (N,) tensors; 0 if one of them is constant.

    >>> rank_correlation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 4.0, 9.0]))
    1.0
    """
    from scipy.stats import rankdata

    ranks = torch.stack([torch.from_numpy(rankdata(values.cpu().numpy())) for values in (first, second)])
    return float(torch.corrcoef(ranks)[0, 1].nan_to_num())
