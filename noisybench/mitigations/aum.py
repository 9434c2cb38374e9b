"""Area under the margin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from noisybench.config.budget import Budget
from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.evaluation.mixture import Components
from noisybench.mitigations._pruning import ScorePruning
from noisybench.mitigations._scores import TrainingDynamics
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import Stream

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class AUM(ScorePruning):
    """Prune by the area under the margin (AUM) with a threshold from a fake class.

    The margin is the score of the observed class minus the largest other score, averaged over all training steps
    (Pleiss et al. 2020). Two networks are trained. For each of them another 1/(C+1) of the examples is assigned to a
    class that does not exist, and a percentile of their margins is the threshold below which a label is considered
    incorrect. The score is the threshold minus the margin, averaged over the networks for which the example kept its
    label; without `keep_fraction` or the true noise rate, examples with a positive score are dropped.

    Margins are informative before incorrect labels are memorized. Both networks are therefore trained with a constant
    learning rate, small batches and for half of the budget's epochs: the authors use 150 of 300 epochs, which is before
    their first drop of the learning rate, with a rate of 0.1, batches of 64 and a weight decay of 1e-4. The rest of the
    recipe is that of the budget.
    """

    fidelity = Fidelity(
        formula="score = threshold - mean over steps of (z_y - max_k≠y z_k)",
        reference="https://github.com/asappresearch/aum",
        commit="892e76eda4b6b85e21bda441d86134e0430ded7a",
        license="MIT",
        compared="areas of 12 examples of 5 classes after 6 epochs",
        difference="2.8e-7 in the area",
        golden=("aum",),
        deviations=(
            Deviation(
                "the learning rate, the weight decay, and half of the epochs of the budget by default; the authors "
                "use .1, 1e-4 and 150 epochs for all data sets",
                "a recipe for every data set; the parameters set the published values",
                "on blobs of 10 classes at 40 % noise and a budget of 40 epochs, half of them give an AUROC of .987 "
                "and flag 57 %, 8 of them 1.000 and 42 %; all of them with a cosine schedule gave .952 and 73 %",
            ),
            Deviation(
                "the fake class has N / (C + 1) examples, as in the paper; the authors' code has N / C",
                "the formula of the paper",
                "one part in C of the fake class",
            ),
            Deviation(
                "the threshold is interpolated between margins of the fake class; the authors' code flags an example "
                "if more than 1 % of those margins are larger",
                "a threshold is needed for the score",
                "examples between two neighboring margins of the fake class at its 99th percentile",
            ),
            Deviation(
                "the score is the mean of threshold minus margin over the networks; the authors rank by the mean "
                "margin alone",
                "each network has a threshold of its own",
                "the order of examples that are in a fake class, by the difference of the thresholds; none for the "
                "others",
            ),
        ),
    )

    epochs: int | None = parameter(
        None, ge=1, le=10**6, help="Training epochs of each network; by default half of those of the budget, rounded up"
    )
    learning_rate: float | None = parameter(
        None, gt=0, help="Constant learning rate of both networks; by default the initial one of the budget"
    )
    batch_size: int | None = parameter(
        None,
        ge=2,
        le=2**31 - 1,
        help="Batch size of both networks; by default 64, or that of the budget if it is smaller",
    )
    weight_decay: float | None = parameter(
        None, ge=0, help="Weight decay of both networks; by default that of the budget"
    )
    percentile: float = parameter(
        99.0, gt=0, le=100, low=90.0, high=100.0, help="Percentile of the fake class's margins used as the threshold"
    )
    score_seed: int = parameter(0, ge=0, help="Random seed of the scoring networks (independent of `seed`)")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return the threshold, and a fixed fraction."""
        return (
            {"epochs": 2, "allow_empty_classes": True, "percentile": 10.0},
            {"epochs": 1, "keep_fraction": 0.7, "per_class": True},
        )

    def score(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return the (N,) threshold minus margin."""
        run = _FakeClassDynamics(task, self.scoring_budget(task.budget), self.score_seed)
        return threshold_scores(task.auxiliary(run)["margin"], run.in_fake_class, self.percentile)

    def scoring_budget(self, budget: Budget) -> Budget:
        """Return the budget of both networks: that of the run with a constant learning rate and without its warm-up.

        >>> from noisybench.config.budget import Budget
        >>> scoring = AUM(weight_decay=1e-4).scoring_budget(Budget(network="mlp:8", epochs=300, batch_size=256))
        >>> scoring.epochs, scoring.batch_size, scoring.lr_schedule, scoring.weight_decay
        (150, 64, 'constant', 0.0001)
        """
        schedule = ("lr_", "warmup_epochs", "adam_beta1_in_decay")
        kept = {name: value for name, value in budget.model_dump().items() if not name.startswith(schedule)}
        changes = {
            "epochs": self.epochs or (budget.epochs + 1) // 2,
            "batch_size": self.batch_size or min(64, budget.batch_size),
            "learning_rate": budget.learning_rate if self.learning_rate is None else self.learning_rate,
            "weight_decay": budget.weight_decay if self.weight_decay is None else self.weight_decay,
            "lr_schedule": "constant",
        }
        return Budget(**{**kept, **changes})

    def flag(self, task: Learner, score: Tensor) -> tuple[Tensor, Components | None]:
        """Return True where the margin is below the threshold."""
        return score > 0, None


def threshold_scores(margins: Tensor, in_fake_class: Tensor, percentile: float) -> Tensor:
    """Return the (N,) threshold minus margin, averaged over the networks for which an example kept its label.

    Args:
        margins: (2, N) mean margins.
        in_fake_class: (2, N) bool, True for examples assigned to the fake class; no example is in both.
        percentile: percentile of the fake class's margins that is the threshold of each network.
    """
    scores = torch.zeros_like(margins)
    for network, (margin, is_fake) in enumerate(zip(margins, in_fake_class, strict=True)):
        scores[network] = torch.quantile(margin[is_fake], percentile / 100) - margin
    kept = (~in_fake_class).float()
    # Never a division by zero: each example kept its label for at least one of the two networks.
    return (scores * kept).sum(0) / kept.sum(0)


class _FakeClassDynamics(TrainingDynamics):
    """Two networks with one additional class, to which different examples are assigned for each of them."""

    def __init__(self, task: Learner, budget: Budget, seed: int) -> None:
        super().__init__(task, 2, budget.epochs, seed, budget)
        # Other labels than in plain training dynamics, whose cached results must not be used here.
        self.cache_key["kind"] = "training dynamics with a fake class"
        data = task.training_set
        # At least one example, because the threshold is a percentile of the fake class.
        size = max(1, len(data) // (data.num_classes + 1))
        # Slices of one permutation are disjoint, so no example is fake for both networks.
        order = torch.from_numpy(Stream("false class", seed).permutation(len(data)))
        self.in_fake_class = torch.zeros(2, len(data), dtype=torch.bool)
        for number in range(2):
            self.in_fake_class[number, order[number * size : (number + 1) * size]] = True

    def training_set(self, number: int) -> TrainingSet:
        """Return the training set with the fake class."""
        data = self.task.training_set
        changed = data.targets.masked_fill(self.in_fake_class[number].to(data.targets.device), data.num_classes)
        return TrainingSet(data.inputs, changed, data.num_classes + 1)
