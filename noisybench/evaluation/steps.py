"""Scores of a verifier of steps: the first incorrect step, and the choice among several solutions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noisybench.data.traces.steps import CORRECT, StepPlaces

THRESHOLD = 0.5
"""Probability of being correct below which a verifier calls a step incorrect."""


STEP_SCORES = (
    "first_error.incorrect", "first_error.correct", "first_error.f1", "best_of.verifier", "best_of.random", "best_of.oracle",
)  # fmt: skip
"""Names of all scores, which are fractions."""


def first_errors(is_correct: NDArray[np.bool_], places: StepPlaces) -> NDArray[np.int64]:
    """Return for each solution the position of its first incorrect step, and -1 without one.

    Example:
        >>> places = StepPlaces(np.zeros(4, int), np.array([0, 0, 0, 1]), np.array([1, 2, 3, 1]), np.full(4, np.nan))
        >>> first_errors(np.array([True, False, True, True]), places)
        array([ 1, -1])
    """
    positions = [np.flatnonzero(~is_correct[rows]) for rows in places.by_solution()]
    return np.array([found[0] if len(found) else -1 for found in positions], dtype=np.int64)


def score_first_error(
    probability: NDArray[np.floating], classes: NDArray[np.int64], places: StepPlaces
) -> dict[str, float]:
    """Return how often the first incorrect step is found, as ProcessBench measures it (Zheng et al. 2024).

    `first_error.incorrect` is the share of solutions with an error whose first incorrect step is found exactly,
    `first_error.correct` the share of solutions without one that are accepted, and `first_error.f1` their harmonic mean.

    Args:
        probability: (N,) probabilities that steps are correct.
        classes: (N,) known classes of the steps.
        places: solution of each step.

    Returns:
        Scores by name; empty if all solutions are correct, or all incorrect, or if some have only their last steps, so
        that the first incorrect one may be missing.

    Example:
        >>> places = StepPlaces(np.zeros(4, int), np.array([0, 0, 1, 1]), np.array([1, 2, 1, 2]), np.full(4, np.nan))
        >>> scores = score_first_error(np.array([0.9, 0.2, 0.8, 0.4]), np.array([1, 0, 1, 1]), places)
        >>> scores["first_error.incorrect"], scores["first_error.correct"], scores["first_error.f1"]
        (1.0, 0.0, 0.0)
    """
    expected = first_errors(classes == CORRECT, places)
    found = first_errors(probability >= THRESHOLD, places)
    has_error = expected >= 0
    has_all_steps = (places.step == 1).sum() == len(expected)
    if has_error.all() or not has_error.any() or not has_all_steps:
        return {}
    incorrect = float((found == expected)[has_error].mean())
    correct = float((found == expected)[~has_error].mean())
    total = incorrect + correct
    f1 = 2 * incorrect * correct / total if total else 0.0
    return {"first_error.incorrect": incorrect, "first_error.correct": correct, "first_error.f1": f1}


def score_best_of(probability: NDArray[np.floating], places: StepPlaces) -> dict[str, float]:
    """Return the accuracy of the solution that the verifier prefers among those of each problem, and its bounds.

    A solution counts as much as its least probable step (Lightman et al. 2023). `best_of.verifier` is the accuracy of
    the preferred solution, `best_of.random` that of a random one, and `best_of.oracle` the share of problems with a
    correct solution. Problems with one solution, or with a solution whose answer is unknown, do not count.

    Args:
        probability: (N,) probabilities that steps are correct.
        places: solution, problem and answer of each step.

    Returns:
        Scores by name; empty without a problem that counts.

    Example:
        >>> places = StepPlaces(np.zeros(3, int), np.array([0, 0, 1]), np.array([1, 2, 1]), np.array([0.0, 0.0, 1.0]))
        >>> score_best_of(np.array([0.9, 0.2, 0.6]), places)
        {'best_of.verifier': 1.0, 'best_of.random': 0.5, 'best_of.oracle': 1.0}
    """
    by_problem: dict[int, list[tuple[float, float]]] = {}
    for rows in places.by_solution():
        score, answer = float(probability[rows].min()), float(places.answer_is_correct[rows[0]])
        by_problem.setdefault(int(places.problem[rows[0]]), []).append((score, answer))
    counted = [
        np.array(solutions)
        for solutions in by_problem.values()
        if len(solutions) > 1 and not any(np.isnan(answer) for _, answer in solutions)
    ]
    if not counted:
        return {}
    # The mean over equal scores, because their order in the file must not decide.
    chosen = [each[each[:, 0] == each[:, 0].max(), 1].mean() for each in counted]
    return {
        "best_of.verifier": float(np.mean(chosen)),
        "best_of.random": float(np.mean([each[:, 1].mean() for each in counted])),
        "best_of.oracle": float(np.mean([each[:, 1].max() for each in counted])),
    }
