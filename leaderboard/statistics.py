"""Means with their uncertainty, ranks within a setting, and comparisons across settings.

All stacks of a setting are trained with the same seeds (blocks), so stacks are compared within seeds. There are two paired tests:

`anova`: a two-way analysis of variance without interaction (randomized block design), value = stack + seed + error, with one
error variance for all stacks, estimated from all of them with (stacks - 1) * (seeds - 1) degrees of freedom. It is the default
because with three seeds a variance estimated from one pair alone is almost meaningless.

`paired_t`: a t-test on the differences of each pair. It assumes nothing about other stacks, and needs more seeds.

Both are two-sided and corrected over all pairs of the setting by Holm's step-down method (Holm, 1979). `pairwise` compares single
pairs in further ways.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

Test = Literal["anova", "paired_t"]
ALPHA = 0.05
"""Family-wise error rate of the tests within a setting."""
POWER = 0.8
"""Power at which detectable differences and additional seeds are computed."""


@dataclass(frozen=True)
class Summary:
    """Summary of n values; None where n is too small.

    Attributes:
        mean: mean.
        deviation: standard deviation with n - 1 in the denominator.
        low: lower end of the 95 % interval by Student's t.
        high: upper end of the interval.
        count: n.
    """

    mean: float
    deviation: float | None
    low: float | None
    high: float | None
    count: int


def summarize(values: Sequence[float]) -> Summary | None:
    """Return the summary of some values; None without any.

    Example:
        >>> summary = summarize([1.0, 2.0, 3.0])
        >>> summary.mean, summary.deviation, round(summary.low, 3), round(summary.high, 3)
        (2.0, 1.0, -0.484, 4.484)
    """
    if not values:
        return None
    # A board has tens of thousands of summaries of a few values each: NumPy would take ten times as long.
    mean, count = math.fsum(values) / len(values), len(values)
    if count < 2:
        return Summary(mean, None, None, None, count)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half_width = _student_quantile(count - 1) * deviation / math.sqrt(count)
    return Summary(mean, deviation, mean - half_width, mean + half_width, count)


@functools.cache
def _student_quantile(df: int) -> float:
    """Return the quantile of Student's t for a two-sided 95 % interval."""
    return float(special.stdtrit(df, 0.975))


@dataclass(frozen=True)
class Ranking:
    """Ranks that the seeds of a setting support.

    Attributes:
        ranks: 1 + the number of significantly better stacks, by stack; stacks of equal rank form a group.
        p_values: Holm-adjusted p-value of each pair of stacks, in the order of `ranks`.
        seeds: number of seeds that all ranked stacks share.
        untested: stacks that are not ranked because they share too few seeds with the others.
        standard_error: standard error of a typical pair's mean difference; None if no test was possible.
        df: degrees of freedom of the standard error.
        alpha: family-wise error rate.
    """

    ranks: dict[str, int]
    p_values: dict[tuple[str, str], float]
    seeds: int
    untested: tuple[str, ...]
    standard_error: float | None = None
    df: int = 0
    alpha: float = ALPHA

    @functools.cached_property
    def minimum_detectable_difference(self) -> float | None:
        """Smallest true difference that these seeds detect with 80 % power; None if no test was possible."""
        if self.standard_error is None:
            return None
        # The strictest of Holm's levels, so that the statement holds for every pair.
        return detectable_difference(self.standard_error, self.df, self.alpha / len(self.p_values))


def rank(
    values: Mapping[str, Mapping[int, float]],
    test: Test = "anova",
    resolution: float = 0.0,
    alpha: float = ALPHA,
) -> Ranking:
    """Rank stacks by their values; greater values are better.

    Args:
        values: value of each run by stack and seed.
        test: paired test, ``anova`` or ``paired_t``.
        resolution: step of the values, 1 / (number of test examples) for an accuracy. Differences that happen to be equal in
            all seeds are not taken as certain: their deviation is at least that of rounding.
        alpha: family-wise error rate.

    Example:
        >>> values = {"a": {0: 0.90, 1: 0.91, 2: 0.92}, "b": {0: 0.70, 1: 0.72, 2: 0.71}, "c": {0: 0.5}}
        >>> ranking = rank(values)
        >>> ranking.ranks, ranking.untested
        ({'a': 1, 'b': 2}, ('c',))
    """
    tested = [stack for stack in values if len(values[stack]) >= 2]
    # Both tests need complete blocks, that is, seeds that all stacks have.
    seeds = sorted(set.intersection(*(set(values[stack]) for stack in tested))) if tested else []
    if len(tested) < 2 or len(seeds) < 2:
        return Ranking({}, {}, len(seeds), tuple(values))
    table = np.array([[values[stack][seed] for seed in seeds] for stack in tested])
    pairs, means = list(itertools.combinations(range(len(tested)), 2)), table.mean(1)
    differences = np.array([means[a] - means[b] for a, b in pairs])
    errors, df = standard_errors(table, pairs, test, resolution)
    # Twice the lower tail: one minus the distribution function would cancel to 0 for small p-values.
    p_values = holm(2 * special.stdtr(df, -np.abs(differences) / errors))
    num_better = dict.fromkeys(range(len(tested)), 0)
    for (a, b), difference, p in zip(pairs, differences, p_values, strict=True):
        if p < alpha:
            num_better[b if difference > 0 else a] += 1
    return Ranking(
        {stack: 1 + num_better[index] for index, stack in enumerate(tested)},
        {(tested[a], tested[b]): float(p) for (a, b), p in zip(pairs, p_values, strict=True)},
        len(seeds),
        tuple(stack for stack in values if stack not in tested),
        float(np.median(errors)),
        df,
        alpha,
    )


def standard_errors(
    table: NDArray[np.float64], pairs: Sequence[tuple[int, int]], test: Test, resolution: float = 0.0
) -> tuple[NDArray[np.float64], int]:
    """Return the standard error of each pair's mean difference, and its degrees of freedom.

    Args:
        table: (stacks, seeds) values.
        pairs: rows of the table to compare.
        test: paired test, see `rank`.
        resolution: step of the values, see `rank`.

    Example:
        >>> table = np.array([[1.0, 2.0, 3.0], [2.0, 3.0, 5.0]])
        >>> errors, df = standard_errors(table, [(0, 1)], "anova")
        >>> errors.round(4), df
        (array([0.3333]), 2)
    """
    stacks, seeds = table.shape
    # Rounding to a step h has the variance h^2 / 12, and a difference contains two roundings.
    floor = resolution**2 / 6
    if test == "paired_t":
        variances = np.array([np.var(table[a] - table[b], ddof=1) for a, b in pairs])
        return np.sqrt(np.maximum(variances, max(floor, 1e-24)) / seeds), seeds - 1
    # (stacks, seeds) errors of the additive model; the grand mean, subtracted twice, is added back.
    residuals = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + table.mean()
    df = (stacks - 1) * (seeds - 1)
    # A difference of two stacks has the error of both, hence the factor 2; 1e-24 avoids a division by zero.
    variance = 2 * float((residuals**2).sum()) / df
    return np.full(len(pairs), math.sqrt(max(variance, floor, 1e-24) / seeds)), df


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Holm-adjusted p-values (Holm, 1979).

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03]))
        array([0.03, 0.06, 0.06])
    """
    # statsmodels runs the garbage collector at each call, a third of a second per setting.
    order = np.argsort(p_values)
    steps = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    # Step-down: no adjusted p-value may be below that of a pair with a smaller p-value.
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def detectable_difference(standard_error: float, df: int, alpha: float, power: float = POWER) -> float:
    """Return the smallest true difference that a two-sided t-test detects with the given power.

    Args:
        standard_error: standard error of the mean difference.
        df: degrees of freedom.
        alpha: level of the test; for a whole setting the strictest of Holm's levels.
        power: probability of detection.

    Example:
        >>> round(detectable_difference(1.0, 20, 0.05), 3)
        2.945
    """
    # By symmetry; the upper quantile would need 1 - alpha / 2, which loses digits for small levels.
    critical = -float(special.stdtrit(df, alpha / 2))
    # The noncentrality that leaves 1 - power below the critical value.
    return standard_error * float(special.nctdtrinc(df, 1 - power, critical))


def average_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return average ranks along the last axis, from 1; NaN is not ranked, and gets 0.5.

    Example:
        >>> average_ranks(np.array([10.0, 30.0, 10.0]))
        array([1.5, 3. , 1.5])
    """
    # `scipy.stats` is not used because its import takes most of a second of every command that shows a table.
    row, column = values[..., :, None], values[..., None, :]
    return np.asarray((column < row).sum(-1) + ((column == row).sum(-1) + 1) / 2)


@dataclass(frozen=True)
class FriedmanResult:
    """Comparison of stacks across settings.

    Attributes:
        average_ranks: average rank by stack, best first; 1 is best in every setting, ties share a rank.
        settings: number of settings.
        p: p-value of Friedman's test that all stacks are equal.
        critical_difference: difference of average ranks below which two stacks are not separated (Nemenyi, 5 %).
    """

    average_ranks: dict[str, float]
    settings: int
    p: float
    critical_difference: float


def compare_across_settings(table: Mapping[str, Sequence[float]]) -> FriedmanResult | None:
    """Apply Friedman's test with Nemenyi's critical difference (Demšar, 2006).

    Args:
        table: value for each setting by stack; greater values are better.

    Returns:
        The result; None with fewer than three stacks or two settings.

    Example:
        >>> result = compare_across_settings({"a": [0.9, 0.8], "b": [0.7, 0.7], "c": [0.5, 0.6]})
        >>> result.average_ranks
        {'a': 1.0, 'b': 2.0, 'c': 3.0}
    """
    values = np.array(list(table.values()))
    if len(values) < 3 or values.shape[1] < 2:
        return None
    stacks, settings = values.shape
    # (stacks, settings); negated, because rank 1 is that of the greatest value.
    ranks = average_ranks(-values.T).T
    average = dict(zip(table, ranks.mean(1).tolist(), strict=True))
    # This form of Friedman's statistic stays correct with ties (Conover, 1999, section 5.8).
    center = (stacks + 1) / 2
    spread = float(((ranks - center) ** 2).sum())
    deviation = float(((ranks.mean(1) - center) ** 2).sum())
    statistic = settings * (stacks - 1) * deviation * settings / spread if spread else 0.0
    return FriedmanResult(
        dict(sorted(average.items(), key=lambda item: item[1])),
        settings,
        float(special.chdtrc(stacks - 1, statistic)),
        _nemenyi_quantile(stacks) * math.sqrt(stacks * (stacks + 1) / (6 * settings)),
    )


NEMENYI = (
    2.3437, 2.5690, 2.7278, 2.8497, 2.9483, 3.0309, 3.1017, 3.1637, 3.2187, 3.2680, 3.3127, 3.3536, 3.3912, 3.4260,
    3.4584, 3.4887, 3.5171, 3.5438,
)  # fmt: skip
"""Quantiles of the studentized range at 5 % over the square root of 2, for three and more stacks (Demšar, 2006, table 5)."""


def _nemenyi_quantile(stacks: int) -> float:
    if stacks - 3 < len(NEMENYI):
        return NEMENYI[stacks - 3]
    # The import is slow, and only tables with more stacks than the published quantiles need it.
    from scipy import stats

    return float(stats.studentized_range.ppf(0.95, stacks, np.inf)) / math.sqrt(2)
