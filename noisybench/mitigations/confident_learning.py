"""Confident learning."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from noisybench.config.parameters import parameter
from noisybench.mitigations._detection import Components
from noisybench.mitigations._pruning import Pruning, beyond_schedule
from noisybench.mitigations._scores import Folds, fold_problems
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner
    from noisybench.training.task import Task


class ConfidentLearning(Pruning):
    """Leaves out the label errors that cleanlab finds in out-of-sample predictions (Northcutt et al. 2021).

    Networks are trained on all but one fold of the data in turn, and predict that fold. The score is one minus cleanlab's
    label quality by normalised margin; without `keep` or a given rate, what cleanlab prunes by its estimate of the
    noise per class is left out. Needs cleanlab: `pip install cleanlab`.
    """

    folds: int = parameter(5, ge=2, low=3, high=10, help="parts of the data, each predicted by a network of its own")
    epochs: int | None = parameter(None, ge=1, help="epochs that each is trained; without it, all of the budget's")
    score_seed: int = parameter(0, ge=0, help="of folds and networks; the run's seed does not change it")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Two folds."""
        return ({"folds": 2, "epochs": 1, "allow_empty_classes": True},)

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """cleanlab is there, and every fold has an example."""
        problems = super().check(network, budget, examples) + beyond_schedule(self.epochs, budget)
        return [*problems, *fold_problems(self.folds, examples)]

    def score(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """One minus the quality of the label."""
        from cleanlab.rank import get_label_quality_scores

        length = self.epochs or task.budget.epochs
        found = task.auxiliary(_Folds(task, self.folds, length, self.score_seed))
        self._predicted = found["predicted"].sum(0).double().numpy()
        self._targets = training_set.targets.cpu().numpy()
        quality = get_label_quality_scores(self._targets, self._predicted, method="normalized_margin")
        return torch.from_numpy(1 - quality)

    def automatic(self, task: Learner, score: Tensor) -> tuple[Tensor, Components | None]:
        """What cleanlab finds."""
        from cleanlab.filter import find_label_issues

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it flags nothing in a class of very few examples, and says so each time
            found = find_label_issues(self._targets, self._predicted, n_jobs=1)
        return torch.from_numpy(found), None


class _Folds(Folds):
    """Networks that each do without one fold; the result's (K, N, C) `predicted` is zero outside of it."""

    def __init__(self, task: Learner, folds: int, length: int, seed: int) -> None:
        super().__init__(task, "folds", folds, length, seed)

    def collect(self, member: int, trained: Task) -> dict[str, Tensor]:
        """Predictions for the fold."""
        predicted = trained.training_outputs(0).probabilities
        return {"predicted": predicted * (self.fold == member).to(predicted)[:, None]}
