"""Closed testing against scipy and against all sets of stacks, and its error rates with equal spreads."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from noisybench.leaderboard.multiplicity import adjusted_p_values, closed_p_values, holm, strictest_level
from noisybench.leaderboard.pair_model import fit_table

ALPHA = 0.05


def pairs_of(stacks: int) -> np.ndarray:
    return np.array(list(itertools.combinations(range(stacks), 2)))


@pytest.mark.parametrize(("stacks", "df"), [(3, 4), (5, 8), (10, 18), (25, 48)])
@pytest.mark.parametrize("p", [1e-4, 0.002, 0.01])
def test_one_small_p_value_is_adjusted_by_the_studentized_range(stacks: int, df: int, p: float) -> None:
    p_values = np.ones(len(pairs_of(stacks)))
    p_values[0] = p
    # Sets of all stacks, and of fewer with their share of the level.
    expected = max(
        stats.studentized_range.sf(-np.sqrt(2) * stats.t.ppf(p / 2, df), size, df)
        * (stacks / size if stacks - size > 1 else 1)
        for size in {2, stacks - 2, stacks - 1, stacks}
        if size >= 2
    )
    assert closed_p_values(p_values, pairs_of(stacks), df, 1e-9)[0] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("seed", range(20))
def test_pairs_are_separated_if_every_set_has_a_significant_pair(seed: int) -> None:
    rng, stacks, df = np.random.default_rng(seed), 4, 9
    pairs = pairs_of(stacks)
    p_values = rng.uniform(size=len(pairs)) ** 4
    found = closed_p_values(p_values, pairs, df, ALPHA) < ALPHA

    def is_significant(members: tuple[int, ...], level: float) -> bool:
        smallest = min(p for p, pair in zip(p_values, pairs, strict=True) if set(pair) <= set(members))
        quantile = -np.sqrt(2) * stats.t.ppf(smallest / 2, df)
        return bool(stats.studentized_range.sf(quantile, len(members), df) < level)

    remaining = set(range(stacks))
    while True:
        is_closed = [
            all(
                is_significant(members, ALPHA * (size / len(remaining) if len(remaining) - size > 1 else 1))
                for size in range(2, len(remaining) + 1)
                for members in itertools.combinations(sorted(remaining), size)
                if set(pair) <= set(members)
            )
            for pair in pairs
        ]
        still = {stack for pair, closed in zip(pairs, is_closed, strict=True) if not closed for stack in pair.tolist()}
        if still == remaining or not still:
            break
        remaining = still
    # The bound on the smallest p-value of a set is safe: it separates at most the pairs of the exact closure.
    assert not (found & ~np.array(is_closed)).any()
    assert found[p_values.argmin()] == is_closed[p_values.argmin()]


def test_two_stacks_need_no_correction() -> None:
    p_values = np.array([[0.3], [0.04], [1e-9]])
    np.testing.assert_allclose(closed_p_values(p_values, pairs_of(2), 2, ALPHA), p_values, rtol=1e-6)


def test_p_values_of_separated_pairs_count_those_that_opened_the_way() -> None:
    """The second pair is separated only after the first one; at a level below the p-value of the first it is not."""
    adjusted = closed_p_values(np.array([0.015, 0.02, 0.9]), pairs_of(3), 20, ALPHA)
    assert adjusted[0] == adjusted[1] > 0.03
    assert adjusted[2] == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("means", "smallest"), [((0,) * 6, 0.04), ((0, 0, 0, 9, 9, 9), 0.03), ((0, 0, 9, 18, 27), 0.04)]
)
def test_the_family_wise_error_of_equal_spreads_is_the_level(means: tuple[float, ...], smallest: float) -> None:
    """Also where some stacks are equal and others are not: `Ryan` shares the level, and separated stacks give theirs back."""
    tables = np.random.default_rng(0).normal(size=(4000, len(means), 5)) + 10 * np.array(means)[:, None]
    model = fit_table(tables, "anova")
    adjusted = closed_p_values(model.p_values, model.pairs, model.pooled_df, ALPHA)
    equal = np.array([means[first] == means[second] for first, second in model.pairs])
    error = (adjusted[:, equal] < ALPHA).any(1).mean()
    assert smallest < error < ALPHA + 0.01


def test_closed_testing_separates_more_than_holms_method() -> None:
    tables = np.random.default_rng(1).normal(size=(300, 8, 3)) + np.arange(8)[:, None]
    model = fit_table(tables, "anova")
    closed = closed_p_values(model.p_values, model.pairs, model.pooled_df, ALPHA) < ALPHA
    by_holm = holm(model.p_values) < ALPHA
    assert closed.mean() > by_holm.mean() + 0.03
    np.testing.assert_array_equal(adjusted_p_values(model, "anova", ALPHA) < ALPHA, by_holm)


def test_the_strictest_level_separates_one_pair_of_otherwise_equal_stacks() -> None:
    model = fit_table(np.random.default_rng(0).normal(size=(7, 4)))
    level = strictest_level(model, "moderated_t", ALPHA)
    for factor, is_separated in ((0.99, True), (1.01, False)):
        p_values = np.ones(len(model.pairs))
        p_values[0] = level * factor
        adjusted = closed_p_values(p_values, model.pairs, model.pooled_df, ALPHA)
        assert (adjusted[0] < ALPHA) == is_separated


def test_tables_are_corrected_together_as_each_alone() -> None:
    pairs = pairs_of(6)
    p_values = np.random.default_rng(0).uniform(size=(20, len(pairs))) ** 6
    together = closed_p_values(p_values, pairs, 10, ALPHA)
    for own, found in zip(p_values, together, strict=True):
        np.testing.assert_allclose(closed_p_values(own, pairs, 10, ALPHA), found)
