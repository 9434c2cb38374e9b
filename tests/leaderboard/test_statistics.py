"""The leaderboard's statistics against scipy and statsmodels, and their error rates by simulation."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from noisybench.leaderboard.pair_model import detectable_difference, fit_pairs
from noisybench.leaderboard.pairwise import (
    MIN_BOOTSTRAP_SEEDS,
    bootstrap_interval,
    compare,
    permutation_p,
    signed_ranks,
)
from noisybench.leaderboard.statistics import (
    NEMENYI,
    compare_across_settings,
    holm,
    rank,
    summarize,
)


def as_values(table: np.ndarray) -> dict[str, dict[int, float]]:
    return {f"stack {i}": dict(enumerate(row)) for i, row in enumerate(table)}


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_interval_is_students(values: list[float]) -> None:
    found = summarize(values)
    assert found is not None
    deviation = np.std(values, ddof=1)
    if deviation > 1e-9:
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.deviation == pytest.approx(deviation)


def test_one_value_has_no_interval() -> None:
    found = summarize([0.5])
    assert found is not None
    assert (found.mean, found.deviation, found.low) == (0.5, None, None)
    assert summarize([]) is None


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
    model = fit_pairs(as_values(table), "anova")
    assert model is not None
    (errors,), df = model.standard_errors, fit.df_resid
    assert set(model.df.ravel()) == {df}
    np.testing.assert_allclose(errors, np.sqrt(2 * fit.mse_resid / 5))
    contrast = fit.t_test("stack[T.s1] = 0")
    p = 2 * stats.t.sf(abs(table[0].mean() - table[1].mean()) / errors[0], df)
    assert p == pytest.approx(float(contrast.pvalue))


@pytest.mark.parametrize("test", ["moderated_t", "anova", "paired_t"])
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
    assert found.minimum_detectable_difference is None
    found = rank({"a": {0: 0.5, 1: 0.6}, "b": {0: 0.5, 1: 0.7}, "c": {0: 0.1}})
    assert found.untested == ("c",)
    assert set(found.ranks) == {"a", "b"}


def test_detectable_difference_is_statsmodels() -> None:
    from statsmodels.stats.power import TTestPower

    for seeds in (3, 5, 10):
        effect = detectable_difference(1 / np.sqrt(seeds), seeds - 1, 0.01)
        assert TTestPower().power(effect, seeds, 0.01) == pytest.approx(0.8, abs=1e-4)


@given(seed=st.integers(0, 300), seeds=st.integers(2, 8), rounded=st.booleans())
@settings(deadline=None, max_examples=40)
def test_permutation_test_is_scipys(seed: int, seeds: int, rounded: bool) -> None:
    difference = np.random.default_rng(seed).normal(0.3, 1, seeds)
    difference = np.round(difference, 1) if rounded else difference
    found = stats.permutation_test((difference,), np.sum, permutation_type="samples", n_resamples=np.inf)
    # SciPy doubles the smaller tail, which of a symmetric distribution is the same.
    assert permutation_p(difference[None])[0] == pytest.approx(found.pvalue)


@given(seed=st.integers(0, 300), seeds=st.integers(2, 10))
@settings(deadline=None, max_examples=40)
def test_signed_rank_test_is_scipys(seed: int, seeds: int) -> None:
    difference = np.random.default_rng(seed).normal(0.3, 1, seeds)
    found = stats.wilcoxon(difference, method="exact").pvalue
    assert permutation_p(signed_ranks(difference[None]))[0] == pytest.approx(found)


def test_ties_and_zeros_of_the_signed_rank_test() -> None:
    difference = np.array([0.0, 0.1, 0.1, -0.1, 0.3])
    assert signed_ranks(difference[None])[0].tolist() == [0, 2, 2, -2, 4]
    assert permutation_p(np.zeros((1, 4))).tolist() == [1.0]


def test_with_many_seeds_random_flips_approach_the_exact_test() -> None:
    difference = np.random.default_rng(4).normal(0.4, 1, 14)
    exact = stats.wilcoxon(difference, method="exact").pvalue
    assert permutation_p(signed_ranks(difference[None]))[0] == pytest.approx(exact, abs=0.02)


def test_bootstrap_interval_is_scipys() -> None:
    difference = np.random.default_rng(1).normal(0.5, 1, (1, 9))
    (low,), (high,) = bootstrap_interval(difference)
    theirs = stats.bootstrap(
        (difference[0],), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert (low, high) == (pytest.approx(theirs.low, abs=0.06), pytest.approx(theirs.high, abs=0.06))


@pytest.mark.parametrize("p_of", [permutation_p, lambda d: permutation_p(signed_ranks(d))])
def test_equal_pairs_are_separated_no_more_often_than_stated(p_of: Callable[[np.ndarray], np.ndarray]) -> None:
    differences = np.random.default_rng(3).standard_t(3, (3000, 8))
    assert stats.binomtest(int((p_of(differences) <= 0.05).sum()), 3000, 0.05, alternative="greater").pvalue > 0.01


@given(seed=st.integers(0, 100), stacks=st.integers(3, 7), cells=st.integers(2, 9))
@settings(deadline=None, max_examples=30)
def test_over_cells_is_friedmans_test(seed: int, stacks: int, cells: int) -> None:
    table = np.random.default_rng(seed).normal(size=(stacks, cells))
    found = compare_across_settings({f"stack {i}": row.tolist() for i, row in enumerate(table)})
    assert found is not None
    assert found.p == pytest.approx(stats.friedmanchisquare(*table).pvalue)
    assert sum(found.average_ranks.values()) == pytest.approx(stacks * (stacks + 1) / 2)


def test_nemenyis_quantiles_are_scipys() -> None:
    for stacks, quantile in enumerate(NEMENYI, 3):
        assert quantile == pytest.approx(stats.studentized_range.ppf(0.95, stacks, np.inf) / np.sqrt(2), abs=6e-5)


@given(seed=st.integers(0, 100), stacks=st.integers(3, 6), cells=st.integers(2, 8))
@settings(deadline=None, max_examples=20)
def test_over_cells_with_ties_is_friedmans_test(seed: int, stacks: int, cells: int) -> None:
    table = np.random.default_rng(seed).integers(0, 4, (stacks, cells)) / 4
    if (stats.rankdata(table, axis=0) == stats.rankdata(table, axis=0)[0]).all():
        return
    found = compare_across_settings({f"stack {i}": row.tolist() for i, row in enumerate(table)})
    assert found is not None
    assert found.p == pytest.approx(stats.friedmanchisquare(*table).pvalue)


def test_critical_difference_is_demsars() -> None:
    # Demšar 2006, section 3.2.2: four classifiers on 14 data sets; q = 2.569, CD = 1.25.
    found = compare_across_settings({f"stack {i}": np.random.default_rng(i).random(14).tolist() for i in range(4)})
    assert found is not None
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)


def test_equal_stacks_are_alike_over_cells() -> None:
    found = compare_across_settings({"a": [0.5, 0.6], "b": [0.5, 0.6], "c": [0.5, 0.6]})
    assert found is not None
    assert (found.p, set(found.average_ranks.values())) == (1.0, {2.0})
    assert compare_across_settings({"a": [0.5], "b": [0.6], "c": [0.7]}) is None


def test_so_many_additional_seeds_do_separate() -> None:
    rng = np.random.default_rng(8)
    values = as_values(np.array([[0.80], [0.79]]) + 0.01 * rng.normal(size=(2, 3)))
    (pair,) = compare(values, rank(values))
    assert pair.additional_seeds is not None
    assert pair.additional_seeds > 0
    more = 3 + pair.additional_seeds
    spread = np.std(
        [a - b for a, b in zip(values["stack 0"].values(), values["stack 1"].values(), strict=True)], ddof=1
    )
    found = [
        rank(as_values(np.array([np.zeros(more), pair.difference + spread * rng.normal(size=more)])), "paired_t").ranks
        for _ in range(400)
    ]
    power = np.mean([max(each.values()) > 1 for each in found])
    assert 0.74 < power < 0.9


def test_pairs_tell_what_is_separated() -> None:
    rng = np.random.default_rng(1)
    values = as_values(np.array([[0.9], [0.9], [0.5]]) + 0.005 * rng.normal(size=(3, 5)))
    pairs = {(each.first, each.second): each for each in compare(values, rank(values))}
    apart = pairs["stack 0", "stack 2"]
    assert apart.additional_seeds == 0
    assert apart.p_permutation == apart.p_wilcoxon == 2 / 2**5
    assert apart.low is not None
    assert apart.low < apart.difference
    assert pairs["stack 0", "stack 1"].additional_seeds != 0
    assert compare({"a": {0: 0.5}}, rank({"a": {0: 0.5}})) == []


def test_the_bootstrap_of_few_seeds_is_too_narrow_and_left_out() -> None:
    """Why it begins at `MIN_BOOTSTRAP_SEEDS` seeds: how often its interval holds the truth, by simulation."""
    rng = np.random.default_rng(0)

    def coverage(seeds: int) -> float:
        low, high = bootstrap_interval(rng.normal(size=(2000, seeds)))
        return float(((low <= 0) & (high >= 0)).mean())

    assert coverage(3) < 0.8
    assert coverage(MIN_BOOTSTRAP_SEEDS) > 0.8
    for seeds in (MIN_BOOTSTRAP_SEEDS - 1, MIN_BOOTSTRAP_SEEDS):
        values = as_values(rng.normal(size=(2, seeds)))
        (pair,) = compare(values, rank(values))
        assert (pair.low is None) == (seeds < MIN_BOOTSTRAP_SEEDS)
