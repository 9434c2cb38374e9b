"""The leaderboard's statistics against scipy and statsmodels, and their error rates by simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from noisybench.leaderboard.statistics import detectable_difference, holm, rank, standard_errors, summarise
from scipy import stats


def as_values(table: np.ndarray) -> dict[str, dict[int, float]]:
    return {f"stack {i}": dict(enumerate(row)) for i, row in enumerate(table)}


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_interval_is_students(values: list[float]) -> None:
    found = summarise(values)
    assert found is not None
    deviation = np.std(values, ddof=1)
    if deviation > 1e-9:
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.deviation == pytest.approx(deviation)


def test_one_value_has_no_interval() -> None:
    found = summarise([0.5])
    assert found is not None
    assert (found.mean, found.deviation, found.low) == (0.5, None, None)
    assert summarise([]) is None


@given(seed=st.integers(0, 300), stacks=st.integers(2, 6), seeds=st.integers(2, 8))
@settings(deadline=None, max_examples=40)
def test_paired_t_is_scipys(seed: int, stacks: int, seeds: int) -> None:
    table = np.random.default_rng(seed).normal(size=(stacks, seeds))
    found = rank(as_values(table), "paired_t").p_values
    pairs = list(itertools.combinations(range(stacks), 2))
    raw = np.array([stats.ttest_rel(table[a], table[b]).pvalue for a, b in pairs])
    for (a, b), p in zip(pairs, holm(raw), strict=True):
        assert found[f"stack {a}", f"stack {b}"] == pytest.approx(p)


@pytest.mark.parametrize("count", [1, 2, 7, 45])
def test_holm_is_statsmodels(count: int) -> None:
    from statsmodels.stats.multitest import multipletests

    p_values = np.random.default_rng(count).random(count) ** 3
    np.testing.assert_allclose(holm(p_values), multipletests(p_values, method="holm")[1])


def test_block_design_is_the_two_way_analysis_of_variance() -> None:
    import pandas
    import statsmodels.formula.api as smf

    table = np.random.default_rng(5).normal(size=(4, 5)) + np.arange(5)
    frame = pandas.DataFrame(
        [{"value": table[i, j], "stack": f"s{i}", "seed": f"b{j}"} for i in range(4) for j in range(5)]
    )
    fit = smf.ols("value ~ stack + seed", frame).fit()
    pairs = list(itertools.combinations(range(4), 2))
    errors, freedom = standard_errors(table, pairs, "blocks")
    assert freedom == fit.df_resid
    np.testing.assert_allclose(errors, np.sqrt(2 * fit.mse_resid / 5))
    contrast = fit.t_test("stack[T.s1] = 0")
    p = 2 * stats.t.sf(abs(table[0].mean() - table[1].mean()) / errors[0], freedom)
    assert p == pytest.approx(float(contrast.pvalue))


@pytest.mark.parametrize("test", ["blocks", "paired_t"])
def test_equal_stacks_are_separated_no_more_often_than_stated(test: str) -> None:
    rng = np.random.default_rng(0)
    trials = 1000
    separated = 0
    for _ in range(trials):
        # Seeds differ much, stacks not at all.
        table = rng.normal(size=(5, 4)) + 3 * rng.normal(size=(1, 4))
        separated += max(rank(as_values(table), test).ranks.values()) > 1  # type: ignore[arg-type]
    assert stats.binomtest(separated, trials, 0.05, alternative="greater").pvalue > 0.01


def test_clear_differences_make_groups() -> None:
    rng = np.random.default_rng(1)
    table = np.array([[0.9], [0.9], [0.7], [0.5]]) + 0.005 * rng.normal(size=(4, 4))
    assert list(rank(as_values(table)).ranks.values()) == [1, 1, 3, 4]


def test_equal_differences_in_all_seeds_are_not_taken_for_certain() -> None:
    # Two seeds, both one test example apart: without the floor the deviation would be zero and p as well.
    table = np.array([[0.90, 0.92], [0.91, 0.93]])
    assert max(rank(as_values(table), "paired_t", resolution=0.01).ranks.values()) == 1


def test_few_seeds_are_said_so() -> None:
    found = rank({"a": {0: 0.5, 1: 0.6}, "b": {0: 0.5}})
    assert found.ranks == {}
    assert found.detectable is None
    found = rank({"a": {0: 0.5, 1: 0.6}, "b": {0: 0.5, 1: 0.7}, "c": {0: 0.1}})
    assert found.untested == ("c",)
    assert set(found.ranks) == {"a", "b"}


def test_detectable_difference_is_statsmodels() -> None:
    from statsmodels.stats.power import TTestPower

    for seeds in (3, 5, 10):
        effect = detectable_difference(1 / np.sqrt(seeds), seeds - 1, 0.01)
        assert TTestPower().power(effect, seeds, 0.01) == pytest.approx(0.8, abs=1e-4)
