"""Scores of verifiers of steps against counts by hand."""

from __future__ import annotations

import numpy as np
import pytest

from noisybench.data.traces.steps import StepPlaces
from noisybench.evaluation.steps import score_best_of, score_first_error


def places(problem: list[int], solution: list[int], answers: list[float]) -> StepPlaces:
    counts: dict[int, int] = {}
    steps = [counts.setdefault(each, 0) or 0 for each in solution]
    for row, each in enumerate(solution):
        counts[each] += 1
        steps[row] = counts[each]
    return StepPlaces(np.array(problem), np.array(solution), np.array(steps), np.array(answers))


@pytest.mark.fast
def test_first_error_must_be_found_exactly() -> None:
    at = places([0] * 9, [0, 0, 0, 1, 1, 1, 2, 2, 2], [np.nan] * 9)
    classes = np.array([1, 0, 0, 1, 1, 0, 1, 1, 1])
    found = score_first_error(np.array([0.9, 0.1, 0.9, 0.9, 0.1, 0.1, 0.9, 0.9, 0.5]), classes, at)
    assert found == {"first_error.incorrect": 0.5, "first_error.correct": 1.0, "first_error.f1": pytest.approx(2 / 3)}
    assert score_first_error(np.full(9, 0.9), np.ones(9, int), at) == {}


@pytest.mark.fast
def test_solutions_without_their_first_steps_have_no_first_error() -> None:
    last = StepPlaces(np.zeros(2, int), np.array([0, 1]), np.array([3, 2]), np.array([0.0, 1.0]))
    assert score_first_error(np.array([0.1, 0.9]), np.array([0, 1]), last) == {}


@pytest.mark.fast
def test_shuffled_rows_have_the_same_scores() -> None:
    rng = np.random.default_rng(0)
    at = places([0] * 8 + [1] * 8, [n // 4 for n in range(16)], [float(n // 4 % 2) for n in range(16)])
    classes, probability = rng.integers(0, 2, 16), rng.random(16)
    order = rng.permutation(16)
    moved = StepPlaces(*(getattr(at, name)[order] for name in ("problem", "solution", "step", "answer_is_correct")))
    assert score_first_error(probability, classes, at) == score_first_error(probability[order], classes[order], moved)
    assert score_best_of(probability, at) == score_best_of(probability[order], moved)


@pytest.mark.fast
def test_best_of_counts_problems_with_several_known_solutions_and_shares_ties() -> None:
    at = places([0, 0, 1, 1, 2, 3, 3], [0, 1, 2, 3, 4, 5, 6], [1, 0, 1, 0, 1, np.nan, 1])
    scores = score_best_of(np.array([0.2, 0.8, 0.5, 0.5, 0.9, 0.1, 0.2]), at)
    assert scores == {"best_of.verifier": 0.25, "best_of.random": 0.5, "best_of.oracle": 1.0}
    assert score_best_of(np.array([0.5]), places([0], [0], [1.0])) == {}
