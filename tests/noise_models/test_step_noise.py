"""Noise of step labels: moved first errors, and the frequencies of their places."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from noisybench.data.traces.steps import StepPlaces
from noisybench.errors import UserError
from noisybench.noise_models.step_annotator import StepAnnotator
from noisybench.noise_models.step_dynamic import StepDynamic
from noisybench.tasks.datasets.traced_steps import TracedSteps
from tests.helpers import toy_dataset

NOISE = {"step_dynamic": StepDynamic, "step_annotator": StepAnnotator}


def first_errors(targets: np.ndarray, places: StepPlaces) -> np.ndarray:  # type: ignore[type-arg]
    return np.array([int(targets[rows].sum()) for rows in places.by_solution()])


@pytest.mark.parametrize("name", NOISE)
@pytest.mark.fast
def test_labels_stay_monotone_and_a_greater_rate_is_a_superset(name: str) -> None:
    dataset = TracedSteps(train_problems=100, test_problems=5).load()
    places = StepPlaces.of(dataset.train)
    clean = first_errors(dataset.train.targets, places)
    few, many = (NOISE[name](rate=rate).apply(dataset).train for rate in (0.2, 0.5))
    for observed in (few, many):
        for rows in places.by_solution():
            assert (np.diff(observed[rows]) <= 0).all(), "correct steps come first"
    is_moved = first_errors(few, places) != clean
    assert abs(is_moved.mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / len(clean))
    assert (first_errors(many, places)[is_moved] == first_errors(few, places)[is_moved]).all()
    assert (NOISE[name](rate=0).apply(dataset).train == dataset.train.targets).all()


@pytest.mark.fast
def test_dynamic_places_are_uniform_among_the_others() -> None:
    model, uniform = StepDynamic(), np.random.default_rng(0).random((8000, 2))
    counts = np.bincount([model.move(2, 4, row) for row in uniform], minlength=5)
    assert counts[2] == 0
    assert stats.chisquare(np.delete(counts, 2)).pvalue > 1e-3


@pytest.mark.fast
def test_annotators_find_errors_early_or_late_by_a_geometric_distance() -> None:
    model, uniform = StepAnnotator(early=0.25, distance=2.0), np.random.default_rng(0).random((20000, 2))
    counts = np.bincount([model.move(10, 40, row) for row in uniform], minlength=41)
    assert counts[10] == 0
    expected = np.array([0.25 * 0.5**g for g in (1, 2, 3)] + [0.75 * 0.5**g for g in (1, 2, 3)])
    measured = counts[[9, 8, 7, 11, 12, 13]] / 20000
    np.testing.assert_allclose(measured, expected, atol=4 * 0.5 / np.sqrt(20000))
    assert {model.move(0, 3, row) for row in uniform} == {1, 2, 3}, "nothing is earlier than the first step"
    assert {model.move(3, 3, row) for row in uniform} == {0, 1, 2}, "nothing is later than the end"


@pytest.mark.fast
def test_other_data_are_refused() -> None:
    with pytest.raises(UserError, match="not steps of solutions"):
        StepDynamic().apply(toy_dataset())
