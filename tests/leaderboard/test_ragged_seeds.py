"""Ranks of stacks that lack seeds, on frozen runs and against scipy and statsmodels."""

from __future__ import annotations

import itertools

import numpy as np
import pandas
import pytest
import statsmodels.formula.api as smf
from scipy import stats

from noisybench.leaderboard.mixed_model import LabelSetScores, compare_stacks
from noisybench.leaderboard.pair_model import Test, comparable_stacks, fit_pairs, fit_table
from noisybench.leaderboard.statistics import rank
from tests.leaderboard.frozen import frozen_measurements

Values = dict[str, dict[int, float]]
TESTS: tuple[Test, ...] = ("moderated_t", "anova", "paired_t")


def frozen(entry: str, noise: str) -> Values:
    """Return the last accuracies of a frozen setting by stack and seed."""
    values: Values = {}
    for each in frozen_measurements():
        if each.entry == entry and each.setting.noise.startswith(noise) and each.last is not None:
            values.setdefault(each.stack, {})[each.seed] = each.last
    return values


def ragged(seed: int, lacking: float = 0.25) -> Values:
    """Return five stacks over seven seeds, some of which stacks lack."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(5, 7)) + 2 * rng.normal(size=7) + np.arange(5)[:, None] / 2
    present = rng.random(table.shape) >= lacking
    present[:, :2] = True
    return {f"s{i}": {seed: float(table[i, seed]) for seed in range(7) if present[i, seed]} for i in range(len(table))}


@pytest.mark.parametrize("test", TESTS)
def test_a_stack_on_other_seeds_is_alone_unranked(test: Test) -> None:
    values = frozen("quickstart", "instance_dependent")
    assert len(values) == 8
    ranking = rank(values, test, 1 / 360)
    found = rank({**values, "newcomer": {10: 0.9, 11: 0.91}}, test, 1 / 360)
    assert (found.ranks, found.p_values) == (ranking.ranks, ranking.p_values)
    assert found.untested == ("newcomer",)


@pytest.mark.parametrize("test", TESTS)
def test_a_stack_with_fewer_seeds_weakens_only_its_own_pairs(test: Test) -> None:
    values = frozen("quickstart", "instance_dependent")
    full = {**values, "newcomer": {seed: 0.3 + 0.001 * seed for seed in (0, 1, 2)}}
    fewer = {**values, "newcomer": {seed: 0.3 + 0.001 * seed for seed in (0, 1)}}
    complete, lacking = fit_pairs(full, test), fit_pairs(fewer, test)
    assert complete is not None
    assert lacking is not None
    own = lacking.pairs[:, 1] == 8
    assert set(lacking.seeds[own]) == {2}
    assert set(lacking.seeds[~own]) == {3}
    np.testing.assert_array_equal(lacking.differences[~own], complete.differences[~own])
    np.testing.assert_array_equal(lacking.variances[~own], complete.variances[~own])
    if test == "anova":
        # Its one variance is that of all runs, so fewer of them change it, and with it every pair that is close to the level.
        return
    with_all, with_fewer = rank(full, test, 1 / 360).ranks, rank(fewer, test, 1 / 360).ranks
    changes = {stack: with_fewer[stack] - with_all[stack] for stack in values if with_fewer[stack] != with_all[stack]}
    # The spreads of fewer runs of the newcomer speak less for an unstable stack: one pair more is separated, and none less.
    assert changes == ({"cross_entropy": 1} if test == "moderated_t" else {})


@pytest.mark.parametrize("seed", range(5))
def test_pooled_variance_of_ragged_seeds_is_that_of_least_squares(seed: int) -> None:
    values = ragged(seed)
    rows = [
        {"value": value, "stack": stack, "seed": f"b{key}"}
        for stack, own in values.items()
        for key, value in own.items()
    ]
    fit = smf.ols("value ~ stack + seed", pandas.DataFrame(rows)).fit()
    model = fit_pairs(values, "anova")
    assert model is not None
    assert model.pooled_df == fit.df_resid
    assert model.pooled_variance == pytest.approx(2 * fit.mse_resid)
    np.testing.assert_allclose(model.standard_errors[0], np.sqrt(2 * fit.mse_resid / model.seeds))


@pytest.mark.parametrize("seed", range(5))
def test_paired_t_uses_the_seeds_that_a_pair_shares(seed: int) -> None:
    values = ragged(seed)
    model = fit_pairs(values, "paired_t")
    assert model is not None
    for p, (a, b) in zip(model.p_values, itertools.combinations(values, 2), strict=True):
        shared = sorted(values[a].keys() & values[b].keys())
        expected = stats.ttest_rel([values[a][key] for key in shared], [values[b][key] for key in shared]).pvalue
        assert p == pytest.approx(expected)


def test_of_stacks_without_common_seeds_those_with_the_most_partners_are_compared() -> None:
    one = dict.fromkeys((0, 1, 2), 0.5)
    other = dict.fromkeys((5, 6), 0.5)
    assert comparable_stacks({"a": other, "b": one, "c": one, "d": one}) == ("b", "c", "d")
    # The bridge shares seeds with both, which are not compared with each other.
    bridge = dict.fromkeys((0, 1, 5, 6), 0.5)
    assert comparable_stacks({"a": one, "bridge": bridge, "b": other}) == ("a", "bridge")
    assert comparable_stacks({"a": one, "b": other}) == ("a",)
    assert rank({"a": one, "b": other}).untested == ("a", "b")


@pytest.mark.parametrize("test", TESTS)
def test_tables_are_fitted_together_as_each_alone(test: Test) -> None:
    tables = np.random.default_rng(0).normal(size=(3, 4, 5))
    tables[:, 0, 0] = np.nan
    together = fit_table(tables, test)
    for number, table in enumerate(tables):
        alone = fit_table(table, test)
        np.testing.assert_allclose(together.pooled_variance[number], alone.pooled_variance, rtol=1e-12)
        np.testing.assert_allclose(together.p_values[number], alone.p_values, rtol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    values = {"a": {0: 0.5, 1: 0.6, 2: value}, "b": {0: 0.4, 1: 0.5, 2: 0.6}}
    with pytest.raises(ValueError, match="the value of `a` for seed 2 must be finite, but is"):
        rank(values)
    with pytest.raises(ValueError, match="the value of `a` for seed 2 must be finite, but is"):
        compare_stacks([LabelSetScores("digits", values)], ["a", "b"], "label_sets")
