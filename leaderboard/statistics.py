"""Means with their uncertainty, ranks within a setting, and comparisons across settings.

All stacks of a setting are trained with the same seeds, so pairs of stacks are compared on the seeds that they share. There are
three paired tests, which differ in the variance of a pair's difference (see `pair_model`):

`moderated_t`: one variance for all pairs, unless the spreads of the two stacks contradict it (see `moderation`). It is the
default: with three seeds a variance of one pair alone is almost meaningless, and one variance for all pairs separates an
unstable stack from the others far too often.

`anova`: one variance for all pairs, from a two-way analysis of variance without interaction, value = stack + seed + error.

`paired_t`: the variance of each pair alone. It assumes nothing about other stacks, and needs more seeds.

All are two-sided. `moderated_t` is corrected over all pairs of the setting by closed testing, the others by
Holm's step-down method (see `multiplicity`). `pairwise` compares single pairs in further ways.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from noisybench.leaderboard.multiplicity import adjusted_p_values, strictest_level
from noisybench.leaderboard.pair_model import PairModel, Test, fit_pairs

ALPHA = 0.05
"""Family-wise error rate of the tests within a setting."""


@dataclass(frozen=True)
class Summary:
    """Summary of n values; None where n is too small.

    Attributes:
        mean: mean.
        deviation: standard deviation with n - 1 in the denominator.
        low: lower end of the 95 % interval by Student's t, see `summarize`.
        high: upper end of the interval.
        count: n.
    """

    mean: float
    deviation: float | None
    low: float | None
    high: float | None
    count: int


def summarize(values: Sequence[float], is_fraction: bool = False) -> Summary | None:
    """Return the summary of some values; None without any.

    Args:
        values: values of independent runs.
        is_fraction: whether the values are fractions; their interval is then computed on the logit scale, so that it stays
            inside [0, 1] and is wider toward the middle.

    Example:
        >>> summary = summarize([1.0, 2.0, 3.0])
        >>> summary.mean, summary.deviation, round(summary.low, 3), round(summary.high, 3)
        (2.0, 1.0, -0.484, 4.484)
        >>> summary = summarize([0.97, 0.98, 1.0], is_fraction=True)
        >>> round(summary.mean, 3), round(summary.low, 3), round(summary.high, 3)
        (0.983, 0.853, 0.998)
    """
    if not values:
        return None
    # A board has tens of thousands of summaries of a few values each: NumPy would take ten times as long.
    mean, count = math.fsum(values) / len(values), len(values)
    if count < 2:
        return Summary(mean, None, None, None, count)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half_width = _student_quantile(count - 1) * deviation / math.sqrt(count)
    if not is_fraction:
        return Summary(mean, deviation, mean - half_width, mean + half_width, count)
    if not 0 < mean < 1:
        return Summary(mean, deviation, mean, mean, count)
    # The delta method: the derivative of the logit is 1 / (mean * (1 - mean)).
    center, half_width = math.log(mean / (1 - mean)), half_width / (mean * (1 - mean))
    # The mean limits both ends: for equal values they would otherwise be beside it by rounding.
    low, high = min(mean, _expit(center - half_width)), max(mean, _expit(center + half_width))
    return Summary(mean, deviation, low, high, count)


def _expit(value: float) -> float:
    """Return the inverse of the logit."""
    # The exponential of less than -700 would be an overflow of its inverse.
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0


@functools.cache
def _student_quantile(df: int) -> float:
    """Return the quantile of Student's t for a two-sided 95 % interval."""
    return float(special.stdtrit(df, 0.975))


@dataclass(frozen=True)
class Ranking:
    """Ranks that the seeds of a setting support.

    Attributes:
        ranks: 1 + the number of significantly better stacks, by stack; stacks of equal rank form a group.
        p_values: p-value of each pair of stacks, adjusted for all pairs, in the order of `ranks`.
        untested: stacks that are not ranked because they share too few seeds with the others.
        model: differences of all pairs with their errors; None if no two stacks share enough seeds.
        alpha: family-wise error rate.
        level: strictest level of a single pair, below which it is separated whatever the other pairs are.
        resolution: step of the values.
    """

    ranks: dict[str, int]
    p_values: dict[tuple[str, str], float]
    untested: tuple[str, ...]
    model: PairModel | None = None
    alpha: float = ALPHA
    level: float = ALPHA
    resolution: float = 0.0

    @functools.cached_property
    def minimum_detectable_difference(self) -> float | None:
        """Smallest true difference that these seeds detect with 80 % power; None if no test was possible.

        At least the resolution: no smaller difference can be observed.
        """
        if self.model is None:
            return None
        # The median stands for a typical pair.
        typical = float(np.median(self.model.detectable_differences(self.level)))
        return max(typical, self.resolution)


def rank(
    values: Mapping[str, Mapping[int, float]],
    test: Test = "moderated_t",
    resolution: float = 0.0,
    alpha: float = ALPHA,
) -> Ranking:
    """Rank stacks by their values; greater values are better.

    Args:
        values: value of each run by stack and seed; stacks may lack seeds.
        test: paired test: ``moderated_t``, ``anova`` or ``paired_t``.
        resolution: step of the values, 1 / (number of test examples) for an accuracy. Differences that happen to be equal in
            all seeds are not taken as certain: their deviation is at least that of rounding.
        alpha: family-wise error rate.

    Raises:
        ValueError: a value is infinite or NaN.

    Example:
        >>> values = {"a": {0: 0.90, 1: 0.91, 2: 0.92}, "b": {0: 0.70, 1: 0.72, 2: 0.71}, "c": {0: 0.5}}
        >>> ranking = rank(values)
        >>> ranking.ranks, ranking.untested
        ({'a': 1, 'b': 2}, ('c',))
    """
    model = fit_pairs(values, test, resolution)
    if model is None:
        return Ranking({}, {}, tuple(values))
    p_values = adjusted_p_values(model, test, alpha)
    num_better = dict.fromkeys(model.stacks, 0)
    names = [(model.stacks[a], model.stacks[b]) for a, b in model.pairs]
    for (first, second), difference, p in zip(names, model.differences, p_values, strict=True):
        if p < alpha:
            num_better[second if difference > 0 else first] += 1
    return Ranking(
        {stack: 1 + better for stack, better in num_better.items()},
        dict(zip(names, p_values.tolist(), strict=True)),
        tuple(stack for stack in values if stack not in num_better),
        model,
        alpha,
        strictest_level(model, test, alpha),
        resolution,
    )


UNSTABLE_LEVEL = 0.01
"""Chance that any stack of a setting is called unstable if all spreads are equal."""
UNSTABLE_RATIO = 3.0
"""Smallest ratio of an unstable stack's standard deviation to the median one."""


@dataclass(frozen=True)
class UnstableStack:
    """A stack whose scores vary far more over seeds than those of the other stacks.

    Attributes:
        stack: stack.
        deviation: standard deviation over its seeds.
        median: median of the standard deviations of all stacks.
    """

    stack: str
    deviation: float
    median: float


def unstable_stacks(values: Mapping[str, Mapping[int, float]], resolution: float = 0.0) -> list[UnstableStack]:
    """Return the stacks that vary significantly more over seeds than the others, the most unstable first.

    The largest variance is compared with the pooled variance of all smaller ones by an F-test, then the next.

    Args:
        values: value of each run by stack and seed.
        resolution: step of the values; variances are at least that of rounding.

    Example:
        >>> steady = {0: 0.900, 1: 0.905, 2: 0.902}
        >>> values = {"a": steady, "b": steady, "c": steady, "d": {0: 0.9, 1: 0.6, 2: 0.8}}
        >>> [(each.stack, round(each.deviation, 3)) for each in unstable_stacks(values)]
        [('d', 0.153)]
    """
    spreads = sorted(
        (max(float(np.var(list(own.values()), ddof=1)), resolution**2 / 12), len(own) - 1, stack)
        for stack, own in values.items()
        if len(own) >= 2
    )
    median = math.sqrt(float(np.median([variance for variance, _, _ in spreads]))) if spreads else 0.0
    unstable = []
    for number in range(len(spreads) - 1, 0, -1):
        variance, df, stack = spreads[number]
        other_df = sum(df for _, df, _ in spreads[:number])
        pooled = math.fsum(variance * df for variance, df, _ in spreads[:number]) / other_df
        p = float(special.fdtrc(df, other_df, variance / pooled)) if pooled > 0 else 0.0
        if p * len(spreads) >= UNSTABLE_LEVEL or math.sqrt(variance) < UNSTABLE_RATIO * median:
            break
        unstable.append(UnstableStack(stack, math.sqrt(variance), median))
    return unstable


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
        p: p-value of Friedman's test that all stacks are equal, by the F distribution (Iman and Davenport, 1980).
        critical_difference: difference of average ranks below which two stacks are not separated (Nemenyi, 5 %).
    """

    average_ranks: dict[str, float]
    settings: int
    p: float
    critical_difference: float

    @property
    def min_settings(self) -> int:
        """Fewest settings in which two of these stacks could be separated, by the largest possible difference of ranks."""
        largest = len(self.average_ranks) - 1
        return math.ceil(self.settings * (self.critical_difference / largest) ** 2 - 1e-9)


def compare_across_settings(table: Mapping[str, Sequence[float]]) -> FriedmanResult | None:
    """Apply Friedman's test in Iman and Davenport's form, with Nemenyi's critical difference (Demšar, 2006).

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
    # Friedman's chi-squared approximation is conservative with few settings, hence the F statistic.
    rest = settings * (stacks - 1) - statistic
    if rest > 1e-9:
        p = float(special.fdtrc(stacks - 1, (stacks - 1) * (settings - 1), (settings - 1) * statistic / rest))
    else:
        # All settings order the stacks alike: of stacks! equally likely orders, each repeats that of the first.
        p = math.factorial(stacks) ** -float(settings - 1)
    return FriedmanResult(
        dict(sorted(average.items(), key=lambda item: item[1])),
        settings,
        p,
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
