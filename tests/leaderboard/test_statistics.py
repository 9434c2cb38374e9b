"""The leaderboard's statistics against scipy and statsmodels, and their error rates by simulation."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from noisybench.leaderboard.multiplicity import holm
from noisybench.leaderboard.pair_model import PairModel, Test, detectable_difference, fit_pairs
from noisybench.leaderboard.pairwise import (
    MIN_BOOTSTRAP_SEEDS,
    NUM_RESAMPLES,
    Pair,
    bootstrap_interval,
    compare,
    permutation_p,
    signed_ranks,
)
from noisybench.leaderboard.statistics import (
    NEMENYI,
    Ranking,
    compare_across_settings,
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


def constant_differences(resolution: float = 0.01) -> dict[str, dict[int, float]]:
    """Return a stack that is half a step below two others in all of three seeds."""
    table = np.array([0.8, 0.85, 0.83]) + resolution / 2 * np.array([[0], [1], [1]])
    return as_values(table)


@pytest.mark.parametrize("test", ["moderated_t", "anova", "paired_t"])
def test_equal_differences_have_the_variance_of_two_roundings(test: Test) -> None:
    model = fit_pairs(constant_differences(), test, resolution=0.01)
    assert model is not None
    # A rounding to a step h is uniform and has the variance h^2 / 12.
    np.testing.assert_allclose(model.standard_errors[-1], np.sqrt(2 * stats.uniform(scale=0.01).var() / 3))


def test_minimum_detectable_difference_holds_for_the_strictest_level() -> None:
    from statsmodels.stats.power import TTestPower

    table = np.random.default_rng(3).normal(size=(3, 5))
    for test in ("anova", "paired_t"):
        ranking = rank(as_values(table), test)
        assert ranking.model is not None
        found = ranking.minimum_detectable_difference
        assert found is not None
        error, df = np.median(ranking.model.standard_errors), ranking.model.df[0, 0]
        # A one-sample t-test of df + 1 values has df degrees of freedom; its effect is the difference over the deviation.
        effect = found / error / np.sqrt(df + 1)
        assert TTestPower().power(effect, df + 1, 0.05 / 3) == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize("test", ["anova", "paired_t"])
@pytest.mark.parametrize("stacks", [2, 4])
def test_additional_seeds_are_the_fewest_with_the_power(test: Test, stacks: int) -> None:
    table = np.random.default_rng(9).normal(size=(stacks, 4)) + 0.4 * np.arange(stacks)[:, None]
    ranking = rank(as_values(table), test)
    model = ranking.model
    assert model is not None
    checked = 0
    for pair, (error, df) in zip(
        compare(as_values(table), ranking), zip(model.standard_errors[0], model.df[0], strict=True), strict=True
    ):
        if not pair.additional_seeds:
            continue

        def power(seeds: int, pair: Pair = pair, error: float = error, df: float = df) -> float:
            later = df / 3 * (seeds - 1)
            critical = stats.t.isf(0.05 / len(model.pairs) / 2, later)
            return float(stats.nct.sf(critical, later, abs(pair.difference) / (error * np.sqrt(4 / seeds))))

        assert power(4 + pair.additional_seeds) >= 0.8 - 1e-3
        assert power(4 + pair.additional_seeds - 1) < 0.8 + 1e-3
        checked += 1
    assert checked


def test_additional_seeds_have_the_error_of_the_ranking() -> None:
    values = constant_differences()
    ranking = rank(values, "anova", resolution=0.01)
    assert set(ranking.ranks.values()) == {1}
    assert min(ranking.p_values.values()) > 0.05
    found = [pair.additional_seeds for pair in compare(values, ranking)]
    assert found == [6, 6, None], "1 without the variance of rounding"


def test_no_difference_below_the_resolution_is_called_detectable() -> None:
    table = np.full((3, 400), 0.8) + 0.01 * np.arange(3)[:, None]
    found = rank(as_values(table), resolution=0.01).minimum_detectable_difference
    assert found == 0.01


def test_values_without_a_step_have_no_smallest_observable_difference() -> None:
    model = fit_pairs({"a": {0: 1e-6, 1: 3e-6, 2: 2e-6}, "b": {0: 4e-6, 1: 5e-6, 2: 7e-6}})
    found = Ranking({"a": 1, "b": 1}, {("a", "b"): 1.0}, (), model).minimum_detectable_difference
    assert found == model.detectable_differences(0.05).item() < 1e-4


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_interval_of_fractions_is_inside_their_range(values: list[float]) -> None:
    found = summarize(values, is_fraction=True)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.mean + 1e-12
    assert found.mean - 1e-12 <= found.high <= 1


def test_interval_of_equal_fractions_contains_their_mean() -> None:
    found = [summarize([count / 1000] * 3, is_fraction=True) for count in range(1, 1000)]
    assert all(each and each.low <= each.mean <= each.high for each in found), "plots refuse negative error bars"


def test_interval_of_fractions_is_the_delta_method_on_the_logit_scale() -> None:
    values = np.array([0.95, 0.99, 0.98, 0.999])
    found = summarize(values.tolist(), is_fraction=True)
    assert found is not None
    mean = values.mean()
    low, high = stats.t.interval(0.95, 3, special.logit(mean), stats.sem(values) / (mean * (1 - mean)))
    assert (found.low, found.high) == (pytest.approx(special.expit(low)), pytest.approx(special.expit(high)))


def coverage(draw: Callable[[np.random.Generator], np.ndarray], truth: float, is_fraction: bool) -> float:
    rng = np.random.default_rng(0)
    found = [summarize(draw(rng).tolist(), is_fraction) for _ in range(4000)]
    return float(np.mean([each is not None and each.low <= truth <= each.high for each in found]))  # type: ignore[operator]


def test_logit_intervals_cover_where_students_do_not() -> None:
    """Skewed fractions near 1 with mean .95 and deviation .04, and ordinary accuracies."""

    def skewed(rng: np.random.Generator) -> np.ndarray:
        scale = 0.95 * 0.05 / 0.04**2 - 1
        return rng.beta(0.95 * scale, 0.05 * scale, 5)

    assert coverage(skewed, 0.95, is_fraction=False) < 0.92
    assert 0.93 < coverage(skewed, 0.95, is_fraction=True) < 0.965
    for rate in (0.7, 0.97, 0.99):
        assert 0.935 < coverage(lambda rng, rate=rate: rng.binomial(360, rate, 5) / 360, rate, True) < 0.965  # type: ignore[misc]


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
    # Whole numbers, whose sums are exact: SciPy takes sums that differ by rounding alone for different ones.
    difference = np.round(10 * difference) if rounded else difference
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


@pytest.mark.parametrize("seeds", [1, 3, 5, 12])
def test_bootstrap_interval_has_the_quantiles_of_all_resamples(seeds: int) -> None:
    differences = np.random.default_rng(1).normal(size=(7, seeds))
    drawn = np.random.default_rng(0).integers(0, seeds, (NUM_RESAMPLES, seeds))
    theirs = np.quantile(differences[:, drawn].mean(-1), [0.025, 0.975], axis=1)
    np.testing.assert_allclose(bootstrap_interval(differences), theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("p_of", [permutation_p, lambda d: permutation_p(signed_ranks(d))])
def test_equal_pairs_are_separated_no_more_often_than_stated(p_of: Callable[[np.ndarray], np.ndarray]) -> None:
    differences = np.random.default_rng(3).standard_t(3, (3000, 8))
    assert stats.binomtest(int((p_of(differences) <= 0.05).sum()), 3000, 0.05, alternative="greater").pvalue > 0.01


def iman_davenport(table: np.ndarray) -> float:
    """Return the p-value from scipy's chi-squared statistic, by the formula of Iman and Davenport (1980)."""
    stacks, cells = table.shape
    chi = stats.friedmanchisquare(*table).statistic
    if chi > cells * (stacks - 1) - 1e-9:  # all settings order the stacks alike
        return float(special.gamma(stacks + 1)) ** (1 - cells)
    return float(stats.f.sf((cells - 1) * chi / (cells * (stacks - 1) - chi), stacks - 1, (stacks - 1) * (cells - 1)))


@given(seed=st.integers(0, 100), stacks=st.integers(3, 7), cells=st.integers(3, 9))
@settings(deadline=None, max_examples=30)
def test_over_cells_is_friedmans_test(seed: int, stacks: int, cells: int) -> None:
    table = np.random.default_rng(seed).normal(size=(stacks, cells))
    found = compare_across_settings({f"stack {i}": row.tolist() for i, row in enumerate(table)})
    assert found is not None
    assert found.p == pytest.approx(iman_davenport(table))
    assert sum(found.average_ranks.values()) == pytest.approx(stacks * (stacks + 1) / 2)


def test_friedmans_f_is_demsars() -> None:
    # Demšar 2006, section 3.2.2: four classifiers on 14 data sets with average ranks 3.143, 2.000, 2.893 and 1.964.
    ranks, cells = np.array([3.143, 2.000, 2.893, 1.964]), 14
    chi = 12 * cells / 20 * ((ranks**2).sum() - 4 * 25 / 4)
    assert chi == pytest.approx(9.28, abs=0.01)
    assert 13 * chi / (cells * 3 - chi) == pytest.approx(3.69, abs=0.01)


def test_settings_that_all_order_stacks_alike_have_the_exact_p_value() -> None:
    found = compare_across_settings({"a": [0.9, 0.8, 0.7], "b": [0.7, 0.6, 0.5], "c": [0.5, 0.4, 0.3]})
    assert found is not None
    assert found.p == pytest.approx(1 / 6**2)


def test_the_fewest_settings_that_could_separate_stacks_are_known() -> None:
    for stacks in (3, 5, 8, 15):
        quantile = stats.studentized_range.ppf(0.95, stacks, np.inf) / np.sqrt(2)
        needed = next(n for n in range(2, 99) if quantile * np.sqrt(stacks * (stacks + 1) / (6 * n)) <= stacks - 1)
        found = compare_across_settings({f"s{i}": [0.1 * i, 0.2 * i] for i in range(stacks)})
        assert found is not None
        assert found.min_settings == needed


def test_nemenyis_quantiles_are_scipys() -> None:
    for stacks, quantile in enumerate(NEMENYI, 3):
        assert quantile == pytest.approx(stats.studentized_range.ppf(0.95, stacks, np.inf) / np.sqrt(2), abs=6e-5)


@given(seed=st.integers(0, 100), stacks=st.integers(3, 6), cells=st.integers(3, 8))
@settings(deadline=None, max_examples=20)
def test_over_cells_with_ties_is_friedmans_test(seed: int, stacks: int, cells: int) -> None:
    table = np.random.default_rng(seed).integers(0, 4, (stacks, cells)) / 4
    if (stats.rankdata(table, axis=0) == stats.rankdata(table, axis=0)[:, :1]).all():
        return
    found = compare_across_settings({f"stack {i}": row.tolist() for i, row in enumerate(table)})
    assert found is not None
    assert found.p == pytest.approx(iman_davenport(table))


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


def test_a_ranking_solves_for_its_critical_differences_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, evaluations, plain = np.random.default_rng(0), list[int](), PairModel.p_values_of
    values = {f"stack {n}": dict(enumerate(0.8 + 0.01 * rng.normal(size=3))) for n in range(6)}
    ranking = rank(values)
    model = ranking.model
    assert model is not None
    alpha = ranking.level

    def counted(self: PairModel, differences: np.ndarray) -> np.ndarray:
        evaluations.append(1)
        return plain(self, differences)

    monkeypatch.setattr(PairModel, "p_values_of", counted)
    compare(values, ranking)
    assert ranking.minimum_detectable_difference is not None
    assert len(evaluations) <= 15, "bisection would need 20 for each of the two"
    assert plain(model, model.critical_differences(alpha)) == pytest.approx(alpha, rel=1e-5)
