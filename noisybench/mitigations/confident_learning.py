"""Confident learning."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.evaluation.mixture import Components
from noisybench.mitigations._pruning import ScorePruning, check_schedule
from noisybench.mitigations._scores import CrossValidation, check_folds
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner
    from noisybench.training.task import Task


class ConfidentLearning(ScorePruning):
    """Prune the label errors that cleanlab finds in out-of-sample predictions.

    Networks are trained on all but one fold of the data in turn, and predict that fold (Northcutt et al. 2021). The
    score is one minus cleanlab's label quality by normalized margin; without `keep_fraction` or the true noise rate,
    the examples that cleanlab prunes by its estimate of the noise per class are dropped. Requires cleanlab:
    `pip install cleanlab`.
    """

    fidelity = Fidelity(
        reference="https://github.com/cleanlab/cleanlab",
        commit="2.9.0",
        license="Apache-2.0",
        compared="flags and scores of 60 examples of 4 classes from the merged predictions of 3 folds; cleanlab "
        "itself computes both",
        difference="0 flags, 0 in the score",
        deviations=(
            Deviation(
                "folds are drawn at random; cleanlab's own training wrapper stratifies them by label",
                "folds of any training set",
                "the number of examples of a class in a fold: by its binomial spread",
            ),
            Deviation(
                "examples are ranked by normalized margin; the library's default is self-confidence",
                "the margin also compares with the other classes",
                "the order within the examples; not which are flagged",
            ),
        ),
    )

    folds: int = parameter(
        5, ge=2, low=3, high=10, help="Number of folds, each predicted by a network that was not trained on it"
    )
    epochs: int | None = parameter(None, ge=1, help="Training epochs of each network; by default those of the budget")
    score_seed: int = parameter(0, ge=0, help="Random seed for folds and networks (independent of `seed`)")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return two folds."""
        return ({"folds": 2, "epochs": 1, "allow_empty_classes": True},)

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """Check that cleanlab is installed, and that every fold has an example."""
        problems = super().check(network, budget, examples) + check_schedule(self.epochs, budget)
        return [*problems, *check_folds(self.folds, examples)]

    def score(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return one minus the (N,) label quality."""
        from cleanlab.rank import get_label_quality_scores

        length = self.epochs or task.budget.epochs
        predictions = task.auxiliary(_OutOfSamplePredictions(task, self.folds, length, self.score_seed))
        # Each example was predicted in one fold only, so the sum over the folds is its prediction.
        self._probabilities = predictions["predicted"].sum(0).double().numpy()
        self._targets = training_set.targets.cpu().numpy()
        quality = get_label_quality_scores(self._targets, self._probabilities, method="normalized_margin")
        return torch.from_numpy(1 - quality)

    def flag(self, task: Learner, score: Tensor) -> tuple[Tensor, Components | None]:
        """Return the label issues that cleanlab finds."""
        from cleanlab.filter import find_label_issues

        with warnings.catch_warnings():
            # cleanlab flags nothing in classes with very few examples, and warns each time.
            warnings.simplefilter("ignore")
            issues = find_label_issues(self._targets, self._probabilities, n_jobs=1)
        return torch.from_numpy(issues), None


class _OutOfSamplePredictions(CrossValidation):
    """Networks that each leave out one fold; the (K, N, C) `predicted` of each is zero outside of its fold."""

    def __init__(self, task: Learner, folds: int, length: int, seed: int) -> None:
        super().__init__(task, "folds", folds, length, seed)

    def collect(self, number: int, trained: Task) -> dict[str, Tensor]:
        """Return the predictions for the fold that was left out."""
        probabilities = trained.training_outputs(0).probabilities
        return {"predicted": probabilities * (self.fold == number).to(probabilities)[:, None]}
