"""Differences between pairs of stacks on the seeds that they share, with their errors: one model for all pairs of a setting.

Stacks may lack seeds. A pair is compared on the seeds that both of its stacks have, and all pairs share one model of the error:
the residuals of value = stack + seed + error, fitted by least squares to all runs, give its *pooled* variance. The variance of a
single pair is the pooled one (`anova`), its own (`paired_t`), or the pooled one as far as the residuals allow (`moderated_t`, see
`moderation`).

All arrays may have leading axes of independent tables with the same missing runs, which is how error rates are simulated.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from noisybench.leaderboard.moderation import moderate

Test = Literal["moderated_t", "anova", "paired_t"]
POWER = 0.8
"""Power at which detectable differences and additional seeds are computed."""
MAX_SEEDS = 1000
"""Most seeds for which the number of additional seeds is computed."""
TOLERANCE = 1e-6
"""Relative error of the p-values of critical differences."""
MAX_STEPS = 40
"""Most steps of the search for critical differences; about six are usual."""
MIN_SHARED_SEEDS = 2
"""Fewest seeds on which two stacks are compared."""


@dataclass(frozen=True)
class PairModel:
    """Differences of stacks, first minus second, with the errors of their means.

    A test is a mixture of Student's t-tests: one for `anova` and `paired_t`, one per hypothesis for `moderated_t`.

    Attributes:
        pairs: (pairs, 2) indices of stacks.
        seeds: (pairs,) numbers of shared seeds.
        differences: (..., pairs) mean differences over the shared seeds.
        variances: (..., pairs) sample variances of the difference of one seed.
        pooled_variance: (...) variance of the difference of one seed if all stacks have equal errors.
        pooled_df: residual degrees of freedom of the pooled variance.
        weights: (components, ..., pairs) weights of the t-tests; they sum to 1.
        standard_errors: (components, ..., pairs) standard errors of the mean differences.
        df: (components, pairs) degrees of freedom.
        stacks: names of the compared stacks; empty for unnamed tables.
    """

    pairs: NDArray[np.int64]
    seeds: NDArray[np.int64]
    differences: NDArray[np.float64]
    variances: NDArray[np.float64]
    pooled_variance: NDArray[np.float64]
    pooled_df: int
    weights: NDArray[np.float64]
    standard_errors: NDArray[np.float64]
    df: NDArray[np.float64]
    stacks: tuple[str, ...] = ()
    _critical: dict[float, NDArray[np.float64]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @functools.cached_property
    def p_values(self) -> NDArray[np.float64]:
        """(..., pairs) two-sided p-values of single pairs, not corrected for their number."""
        return self.p_values_of(self.differences)

    def p_values_of(self, differences: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the p-values that the pairs would have with other mean differences."""
        # Twice the lower tail: one minus the distribution function would cancel to 0 for small p-values.
        df = self.df.reshape(len(self.df), *[1] * (self.standard_errors.ndim - 2), -1)
        return np.asarray((2 * self.weights * special.stdtr(df, -np.abs(differences) / self.standard_errors)).sum(0))

    def critical_differences(self, alpha: float) -> NDArray[np.float64]:
        """Return the (pairs,) mean differences at which the p-value of a single pair is alpha."""
        # Both the detectable differences and the additional seeds of a ranking start from them.
        if alpha not in self._critical:
            # By symmetry; the upper quantile would need 1 - alpha / 2, which loses digits for small levels.
            # Most pairs share their degrees of freedom, and SciPy takes a microsecond for each quantile.
            known, positions = np.unique(self.df, return_inverse=True)
            quantiles = -special.stdtrit(known, alpha / 2)[positions].reshape(self.df.shape) * self.standard_errors
            self._critical[alpha] = quantiles[0] if len(quantiles) == 1 else self._solve(alpha, quantiles)
        return self._critical[alpha]

    def _solve(self, alpha: float, quantiles: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (pairs,) mean differences with the p-value alpha, between the quantiles of the (components, pairs).

        A false position method with the weights of Anderson and Bjoerck (1973), for the logarithms of both: it needs a third of
        the evaluations of bisection, whose number decides how long a board takes.
        """
        ends = np.log([quantiles.min(0), quantiles.max(0)])
        errors = np.array([self._log_errors(end, alpha) for end in ends])
        best, columns = ends[0], np.arange(ends.shape[1])
        smallest, replaced = np.full(len(columns), np.inf), np.full(len(columns), -1)
        for _ in range(MAX_STEPS):
            slope = errors[1] - errors[0]
            middle = np.clip(ends[1] - errors[1] * (ends[1] - ends[0]) / np.where(slope == 0, 1, slope), *ends)
            error = self._log_errors(middle, alpha)
            closer = np.abs(error) < smallest
            best, smallest = np.where(closer, middle, best), np.where(closer, np.abs(error), smallest)
            if smallest.max() < TOLERANCE:
                break
            # The p-value falls with the difference: a positive error is that of a difference which is too small.
            side = np.where(error > 0, 0, 1)
            # An end that stays twice counts less, since it would otherwise stay for long.
            before = np.where(errors[side, columns] == 0, 1, errors[side, columns])
            factor = np.where(error / before < 1, 1 - error / before, 0.5)
            errors[1 - side, columns] *= np.where(side == replaced, factor, 1.0)
            ends[side, columns], errors[side, columns], replaced = middle, error, side
        return np.asarray(np.exp(best))

    def _log_errors(self, log_differences: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
        # The smallest number in place of a p-value that is too small for one.
        p_values = np.maximum(self.p_values_of(np.exp(log_differences)), np.finfo(float).tiny)
        return np.asarray(np.log(p_values / alpha))

    def detectable_differences(self, alpha: float) -> NDArray[np.float64]:
        """Return the smallest true differences of the (pairs,) that a test at a level detects with `POWER`."""
        errors, df = self._single_t(alpha)
        return errors * _interpolated_noncentrality(df, alpha)

    def additional_seeds(self, alpha: float, pairs: NDArray[np.int64]) -> list[int | None]:
        """Return how many more seeds detect the observed difference of some pairs with `POWER`, at the present error variance.

        Returns:
            At least 1 for each of the pairs; None if more than `MAX_SEEDS` in all are needed.
        """
        errors, df = (array[pairs] for array in self._single_t(alpha))
        now, observed = self.seeds[pairs], np.abs(self.differences)[pairs]

        def detects(total: NDArray[np.int64]) -> NDArray[np.bool_]:
            # The error of a mean falls with the root of its seeds, and degrees of freedom are proportional to seeds - 1.
            scale = _interpolated_noncentrality(df * (total - 1) / (now - 1), alpha)
            return np.asarray(errors * np.sqrt(now / total) * scale <= observed)

        # More seeds always detect smaller differences, so the smallest number is found by bisection.
        low, high = now, np.full_like(now, MAX_SEEDS + 1)
        while (high - low > 1).any():
            middle = (low + high + 1) // 2
            is_enough = detects(middle)
            low, high = np.where(is_enough, low, middle), np.where(is_enough, middle, high)
        return [int(more) if total <= MAX_SEEDS else None for more, total in zip(high - now, high, strict=True)]

    def _single_t(self, alpha: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the (pairs,) standard errors and degrees of freedom of the t-tests with the same critical differences."""
        df = (self.weights * self.df).sum(0)
        return -self.critical_differences(alpha) / special.stdtrit(df, alpha / 2), df


def detectable_difference(standard_error: float, df: float, alpha: float) -> float:
    """Return the smallest true difference that a two-sided t-test detects with `POWER`.

    Args:
        standard_error: standard error of the mean difference.
        df: degrees of freedom.
        alpha: level of the test; for a whole setting the strictest level of a pair.

    Example:
        >>> round(detectable_difference(1.0, 20, 0.05), 3)
        2.945
    """
    return standard_error * float(_noncentrality(np.array([float(df)]), alpha)[0])


def _noncentrality(df: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """Return the noncentrality that leaves 1 - `POWER` below the critical value of a two-sided t-test."""
    return np.asarray(special.nctdtrinc(df, 1 - POWER, -special.stdtrit(df, alpha / 2)))


def _interpolated_noncentrality(df: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    known, values = _noncentrality_table(alpha)
    return np.asarray(np.exp(np.interp(np.log(df), known, values)))


@functools.lru_cache(maxsize=256)
def _noncentrality_table(alpha: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return logarithms of degrees of freedom and of noncentralities: SciPy takes milliseconds for each value."""
    df = np.unique(np.round(np.concatenate([np.arange(1, 31), np.geomspace(31, 1e5, 40)])))
    return np.log(df), np.log(_noncentrality(df, alpha))


def comparable_stacks(values: Mapping[str, Mapping[int, float]]) -> tuple[str, ...]:
    """Return the stacks every two of which share enough seeds, in the order of `values`.

    Stacks are left out one by one, first the one that shares seeds with the fewest others, of these the one with the fewest
    seeds, of these the last.

    Example:
        >>> comparable_stacks({"a": {0: 0.5, 1: 0.6}, "b": {0: 0.5, 1: 0.7, 2: 0.6}, "c": {8: 0.1, 9: 0.2}})
        ('a', 'b')
    """
    names = list(values)
    shares = np.array([[len(values[a].keys() & values[b].keys()) >= MIN_SHARED_SEEDS for b in names] for a in names])
    kept = list(range(len(names)))
    while kept and not shares[np.ix_(kept, kept)].all():
        kept.remove(min(kept, key=lambda index: (shares[index, kept].sum(), len(values[names[index]]), -index)))
    return tuple(names[index] for index in kept)


def check_finite(values: Mapping[str, Mapping[int, float]]) -> None:
    """Check that all values are finite: a missing run has no entry, and NaN would be taken for one.

    Raises:
        ValueError: a value is infinite or NaN.

    Example:
        >>> check_finite({"a": {0: 0.5, 1: float("nan")}})
        Traceback (most recent call last):
        ValueError: the value of `a` for seed 1 must be finite, but is nan; leave out runs without a value
    """
    for stack, by_seed in values.items():
        for seed, value in by_seed.items():
            if not math.isfinite(value):
                raise ValueError(
                    f"the value of `{stack}` for seed {seed} must be finite, but is {value}; leave out runs without a value"
                )


def fit_pairs(
    values: Mapping[str, Mapping[int, float]], test: Test = "moderated_t", resolution: float = 0.0
) -> PairModel | None:
    """Return the model of all pairs of comparable stacks; None if fewer than two stacks are comparable.

    Args:
        values: value of each run by stack and seed; stacks may lack seeds.
        test: see `statistics.rank`.
        resolution: step of the values; the variance of a difference is at least that of two roundings.

    Raises:
        ValueError: a value is infinite or NaN.

    Example:
        >>> model = fit_pairs({"a": {0: 1.0, 1: 2.0, 2: 3.0}, "b": {0: 2.0, 1: 3.0, 2: 5.0}, "c": {0: 4.0}}, "anova")
        >>> model.stacks, model.differences.round(4), model.standard_errors.round(4), model.df
        (('a', 'b'), array([-1.3333]), array([[0.3333]]), array([[2.]]))
    """
    check_finite(values)
    stacks = comparable_stacks(values)
    if len(stacks) < 2:
        return None
    seeds = sorted(set().union(*(values[stack] for stack in stacks)))
    table = np.array([[values[stack].get(seed, np.nan) for seed in seeds] for stack in stacks])
    return replace(fit_table(table, test, resolution), stacks=stacks)


def fit_table(table: NDArray[np.float64], test: Test = "moderated_t", resolution: float = 0.0) -> PairModel:
    """Return the model of all pairs of rows, every two of which share at least `MIN_SHARED_SEEDS` columns.

    Args:
        table: (..., stacks, seeds) values, NaN where a run is missing; the same runs are missing in all tables.
        test: see `statistics.rank`.
        resolution: see `fit_pairs`.

    Example:
        >>> fit_table(np.array([[1.0, 2.0, np.nan], [2.0, 4.0, 5.0]])).seeds
        array([2])
    """
    stacks = table.shape[-2]
    pairs = np.array(list(itertools.combinations(range(stacks), 2)))
    by_seed = table[..., pairs[:, 0], :] - table[..., pairs[:, 1], :]
    missing = np.isnan(by_seed)
    seeds = (~missing).sum(-1).reshape(-1, len(pairs))[0]
    differences = np.where(missing, 0.0, by_seed).sum(-1) / seeds
    deviations = np.where(missing, 0.0, by_seed - differences[..., None])
    df = seeds - 1
    variances = (deviations**2).sum(-1) / df
    # Rounding to a step h has the variance h^2 / 12, and a difference contains two roundings; 1e-24 avoids a division by zero.
    floor = max(resolution**2 / 6, 1e-24)
    residuals, pooled_df = _residuals(table)
    # A difference of two stacks has the error of both, hence the factor 2.
    pooled = np.maximum(2 * (residuals**2).sum((-2, -1)) / pooled_df, floor)
    total_df = df if test == "paired_t" else np.full(len(pairs), pooled_df)
    weights = np.ones((1, *variances.shape))
    if test == "paired_t":
        used = variances[None]
    elif test == "anova" or stacks == 2:
        # Two stacks have one difference, and nothing to compare its variance with.
        used = np.broadcast_to(pooled[..., None], weights.shape)
    else:
        weights, used = moderate(residuals, ~np.isnan(table.reshape(-1, *table.shape[-2:])[0]), pairs, pooled_df)
    errors = np.sqrt(np.maximum(used, floor) / seeds)
    return PairModel(
        pairs,
        seeds,
        differences,
        variances,
        pooled,
        pooled_df,
        weights,
        errors,
        np.tile(total_df, (len(used), 1)).astype(float),
    )


def _residuals(table: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Return the (..., stacks, seeds) residuals of value = stack + seed + error, 0 without a run, and degrees of freedom."""
    stacks, seeds = table.shape[-2:]
    values = table.reshape(*table.shape[:-2], stacks * seeds)
    present = np.flatnonzero(~np.isnan(values.reshape(-1, stacks * seeds)[0]))
    remainder, df = _residual_matrix(stacks, seeds, tuple(present.tolist()))
    residuals = np.zeros(values.shape)
    residuals[..., present] = values[..., present] @ remainder
    return residuals.reshape(table.shape), df


@functools.lru_cache(maxsize=64)
def _residual_matrix(stacks: int, seeds: int, present: tuple[int, ...]) -> tuple[NDArray[np.float64], int]:
    """Return the matrix from values to residuals of the additive model, and its rank, the degrees of freedom.

    Args:
        stacks: number of rows.
        seeds: number of columns.
        present: positions of the runs in the table, row by row.
    """
    rows, columns = np.divmod(np.array(present), seeds)
    design = np.hstack([rows[:, None] == np.arange(stacks), columns[:, None] == np.arange(seeds)]).astype(float)
    # The columns of stacks and of seeds both add up to one: the pseudoinverse handles the redundancy.
    hat = design @ np.linalg.pinv(design)
    return np.eye(len(present)) - hat, len(present) - round(float(np.trace(hat)))
