"""The evaluator of verifiers of steps."""

from __future__ import annotations

from typing import Any

from noisybench.data.traces.steps import CORRECT, StepPlaces
from noisybench.evaluation.steps import score_best_of, score_first_error
from noisybench.tasks._class_evaluator import ClassificationEvaluator
from noisybench.training.learner import Learner
from noisybench.training.prepared import PreparedRun


class StepEvaluator(ClassificationEvaluator):
    """Evaluator of classes of steps, of the first incorrect step, and of the choice among solutions of a problem."""

    def __init__(self, prepared: PreparedRun) -> None:
        super().__init__(prepared)
        self._places = StepPlaces.of(self.dataset.test)

    def evaluate_epoch(self, task: Learner, stage: str) -> dict[str, Any]:
        """Return the scores of classes, with those of solutions among the diagnostics."""
        row = super().evaluate_epoch(task, stage)
        assert self._test_probabilities is not None
        probability = self._test_probabilities[:, CORRECT]
        row["diagnostics"] |= score_first_error(probability, self.dataset.test.targets, self._places)
        row["diagnostics"] |= score_best_of(probability, self._places)
        return row
