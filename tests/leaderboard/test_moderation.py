"""Moderated variances against generalized least squares, and what they make of unstable stacks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from noisybench.leaderboard import moderation
from noisybench.leaderboard.pair_model import PairModel, fit_table


def restricted_fit(table: np.ndarray, ratios: np.ndarray) -> tuple[float, float]:
    """Return the log-likelihood, up to a constant, and the error variance of a table by restricted maximum likelihood.

    Args:
        table: (stacks, seeds) values, NaN without a run.
        ratios: (stacks,) ratios of the standard deviations.
    """
    rows, columns = np.nonzero(~np.isnan(table))
    stacks, seeds = np.eye(len(table))[rows], np.eye(table.shape[1])[columns]
    # Without one of the seeds, the design has full rank.
    design = np.hstack([stacks, seeds[:, 1:]])
    precision = np.diag(1 / ratios[rows] ** 2)
    information = design.T @ precision @ design
    values = table[rows, columns]
    residuals = values - design @ np.linalg.solve(information, design.T @ precision @ values)
    squares, df = residuals @ precision @ residuals, len(values) - design.shape[1]
    determinants = np.linalg.slogdet(information)[1] - np.linalg.slogdet(precision)[1]
    return float(-(df * np.log(squares) + determinants) / 2), float(squares / df)


def hypotheses(stacks: int, first: int, second: int) -> list[np.ndarray]:
    """Return the ratios of all stacks under each hypothesis about a pair, equal spreads first."""
    larger = [
        [ratio if is_larger else 1.0 for is_larger in members]
        for members in ((True, False), (False, True), (True, True))
        for ratio in 4.0 ** np.arange(1, 6)
    ]
    found = []
    for pair in [[1.0, 1.0], *larger]:
        ratios = np.ones(stacks)
        ratios[[first, second]] = pair
        found.append(ratios)
    return found


def prior_odds(stacks: int) -> np.ndarray:
    """Return the prior odds of the unequal hypotheses."""
    return np.repeat([0.16, 0.16, 0.08], 5) * min(1, np.sqrt(5 / stacks))


def count_all_stacks_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no other stack look unstable."""

    def equal(residuals: np.ndarray, present: np.ndarray, df: int) -> np.ndarray:
        weights = np.zeros((1 + len(moderation.RATIOS), *residuals.shape[:-1]))
        weights[0] = 1
        return weights

    monkeypatch.setattr(moderation, "_ratio_weights", equal)


@pytest.mark.parametrize("stacks", [3, 6])
def test_hypotheses_are_fitted_by_restricted_maximum_likelihood(stacks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    count_all_stacks_alike(monkeypatch)
    table = np.random.default_rng(stacks).normal(size=(stacks, 4)) * np.linspace(1, 3, stacks)[:, None]
    model = fit_table(table)
    for index, (first, second) in enumerate(itertools.combinations(range(stacks), 2)):
        fits = [restricted_fit(table, ratios) for ratios in hypotheses(stacks, first, second)]
        variances = [
            variance * (ratios[first] ** 2 + ratios[second] ** 2)
            for (_, variance), ratios in zip(fits, hypotheses(stacks, first, second), strict=True)
        ]
        np.testing.assert_allclose(model.standard_errors[:, index], np.sqrt(np.array(variances) / 4))
        likelihoods = np.exp([fit[0] - fits[0][0] for fit in fits])
        unequal = likelihoods[1:] * prior_odds(stacks)
        odds = unequal.sum() ** 2
        np.testing.assert_allclose(model.weights[0, index], 1 / (1 + odds))
        np.testing.assert_allclose(model.weights[1:, index], odds / (1 + odds) * unequal / unequal.sum())


def test_missing_runs_leave_the_likelihoods_nearly_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """The residuals are those of equal spreads, which differ a little from those of the hypothesis if runs are missing."""
    count_all_stacks_alike(monkeypatch)
    table = np.random.default_rng(5).normal(size=(4, 6))
    # Seed 3 is that of the first two stacks alone, seed 4 lacks the first.
    table[2:, 3] = table[0, 4] = np.nan
    model = fit_table(table)
    fits = [restricted_fit(table, ratios)[0] for ratios in hypotheses(4, 0, 1)]
    found = np.log(model.weights[1:, 0]) - np.log(prior_odds(4))
    exact = np.array(fits[1:])
    np.testing.assert_allclose(found - found[0], exact - exact[0], atol=0.7)
    assert model.standard_errors[0, 0] == pytest.approx(np.sqrt(model.pooled_variance / 5))


def test_equal_spreads_leave_the_pooled_variance() -> None:
    # Every two stacks differ, and all have the same spread.
    table = np.array([[1.0, -1.0, 0.0, 0.0], [0.0, 1.0, -1.0, 0.0], [0.0, 0.0, 1.0, -1.0], [-1.0, 0.0, 0.0, 1.0]])
    moderated, pooled = fit_table(table), fit_table(table, "anova")
    assert moderated.weights[0].min() > 0.85
    np.testing.assert_allclose(moderated.standard_errors[0], pooled.standard_errors[0], rtol=1e-3)


def unstable_table(ratio: float) -> np.ndarray:
    """Return five stacks, of which the first has a larger spread."""
    table = np.random.default_rng(2).normal(size=(5, 4))
    table[0] *= ratio
    return table


def error(model: PairModel) -> np.ndarray:
    """Return the mean standard errors of pairs over hypotheses."""
    return np.asarray((model.weights * model.standard_errors).sum(0))


def test_an_unstable_stack_has_its_own_error() -> None:
    model = fit_table(unstable_table(16))
    own = model.pairs[:, 0] == 0
    assert model.weights[0, own].max() < 1e-4, "equal spreads are excluded"
    alone = fit_table(unstable_table(16), "paired_t").standard_errors[0, own]
    np.testing.assert_allclose(error(model)[own], alone, rtol=0.35)


def test_an_extremely_unstable_stack_leaves_the_other_pairs_as_without_it() -> None:
    table = unstable_table(1000)
    model, without = fit_table(table), fit_table(table[1:])
    others = model.pairs[:, 0] > 0
    np.testing.assert_allclose(error(model)[others], error(without), rtol=0.3)
    assert fit_table(table, "anova").standard_errors.min() > 20 * error(without).max()


def test_a_second_unstable_stack_is_not_hidden_by_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    table = np.random.default_rng(4).normal(size=(6, 4))
    table[:2] *= 8
    model = fit_table(table)
    second = (model.pairs[:, 0] == 1) & (model.pairs[:, 1] > 1)
    count_all_stacks_alike(monkeypatch)
    hidden = fit_table(table)
    assert model.weights[0, second].max() < 0.01
    assert hidden.weights[0, second].min() > 0.9


def test_two_stacks_share_one_variance() -> None:
    table = np.random.default_rng(0).normal(size=(2, 5))
    for test in ("anova", "paired_t"):
        np.testing.assert_allclose(fit_table(table).p_values, fit_table(table, test).p_values)


def test_equal_values_have_no_undefined_weights() -> None:
    model = fit_table(np.full((4, 3), 0.9), resolution=0.01)
    np.testing.assert_allclose(model.weights.sum(0), 1)
    np.testing.assert_allclose(model.standard_errors, np.sqrt(0.01**2 / 6 / 3))
    np.testing.assert_allclose(model.p_values, 1)
