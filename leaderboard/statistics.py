"""Means with their uncertainty, and which differences the seeds can show.

Every stack of a cell is trained on the same seeds (blocks), so stacks are compared within seeds. Two tests:

`blocks`: a randomised block design. value = stack + seed + error with one error variance for all stacks, estimated
from all of them together with (stacks - 1) * (seeds - 1) degrees of freedom. It is the default, because with three
seeds a variance estimated from one pair alone says next to nothing.

`paired_t`: for each pair the t-test on its own differences; assumes nothing about other stacks, needs more seeds.

Both are two-sided and corrected over all pairs of the cell by Holm's step-down method (Holm 1979). `compare` has what else
can be said of a pair, and `over_cells` ranks stacks over many cells.
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

Test = Literal["blocks", "paired_t"]
ALPHA = 0.05
POWER = 0.8


@dataclass(frozen=True)
class Summary:
    """Mean, standard deviation (n - 1) and 95 % interval (Student's t) of n values; None where n is too small."""

    mean: float
    deviation: float | None
    low: float | None
    high: float | None
    count: int


def summarise(values: Sequence[float]) -> Summary | None:
    """Summary of values; None of none."""
    if not values:
        return None
    # A board has tens of thousands of these, of a few values each: arrays would take ten times as long.
    mean, count = math.fsum(values) / len(values), len(values)
    if count < 2:
        return Summary(mean, None, None, None, count)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = _student(count - 1) * deviation / math.sqrt(count)
    return Summary(mean, deviation, mean - half, mean + half, count)


@functools.cache
def _student(freedom: int) -> float:
    """Quantile of Student's t for a 95 % interval."""
    return float(special.stdtrit(freedom, 0.975))


@dataclass(frozen=True)
class Ranking:
    """Which stacks the seeds can tell apart.

    Attributes:
        ranks: 1 + the number of stacks that are significantly better; equal ranks form a group.
        p_values: Holm-adjusted, by pair of stacks in the order of `ranks`.
        seeds: blocks that all ranked stacks share.
        untested: stacks left out because they share too few seeds with the others.
        error: standard error of a typical pair's mean difference; None where no test was possible.
        freedom: its degrees of freedom.
        alpha: probability of one or more false separations.
    """

    ranks: dict[str, int]
    p_values: dict[tuple[str, str], float]
    seeds: int
    untested: tuple[str, ...]
    error: float | None = None
    freedom: int = 0
    alpha: float = ALPHA

    @functools.cached_property
    def detectable(self) -> float | None:
        """Smallest true difference that these seeds show with 80 % probability; None where no test was possible."""
        if self.error is None:
            return None
        return detectable_difference(self.error, self.freedom, self.alpha / len(self.p_values))


def rank(
    values: Mapping[str, Mapping[int, float]],
    test: Test = "blocks",
    resolution: float = 0.0,
    alpha: float = ALPHA,
) -> Ranking:
    """Rank stacks by their values, the greater the better.

    Args:
        values: by stack and seed.
        test: how pairs are compared.
        resolution: step of the values, 1 / (test examples) for an accuracy. Differences that happen to be equal in
            all seeds are not taken for certain: their deviation counts as that of rounding at least.
        alpha: probability of one or more false separations in the cell.
    """
    tested = [stack for stack in values if len(values[stack]) >= 2]
    seeds = sorted(set.intersection(*(set(values[stack]) for stack in tested))) if tested else []
    if len(tested) < 2 or len(seeds) < 2:
        return Ranking({}, {}, len(seeds), tuple(values))
    table = np.array([[values[stack][seed] for seed in seeds] for stack in tested])
    pairs, means = list(itertools.combinations(range(len(tested)), 2)), table.mean(1)
    differences = np.array([means[a] - means[b] for a, b in pairs])
    errors, freedom = standard_errors(table, pairs, test, resolution)
    raw = 2 * special.stdtr(freedom, -np.abs(differences) / errors)
    adjusted = holm(raw)
    better = dict.fromkeys(range(len(tested)), 0)
    for (a, b), difference, p in zip(pairs, differences, adjusted, strict=True):
        if p < alpha:
            better[b if difference > 0 else a] += 1
    return Ranking(
        {stack: 1 + better[place] for place, stack in enumerate(tested)},
        {(tested[a], tested[b]): float(p) for (a, b), p in zip(pairs, adjusted, strict=True)},
        len(seeds),
        tuple(stack for stack in values if stack not in tested),
        float(np.median(errors)),
        freedom,
        alpha,
    )


def standard_errors(
    table: NDArray[np.float64], pairs: Sequence[tuple[int, int]], test: Test, resolution: float = 0.0
) -> tuple[NDArray[np.float64], int]:
    """Standard error of each pair's mean difference, and its degrees of freedom.

    Args:
        table: (stacks, seeds) values.
        pairs: rows to compare.
        test: as in `rank`.
        resolution: as in `rank`.
    """
    stacks, seeds = table.shape
    # Rounding to a step h has variance h^2 / 12; a difference has two such errors.
    floor = resolution**2 / 6
    if test == "paired_t":
        variances = np.array([np.var(table[a] - table[b], ddof=1) for a, b in pairs])
        return np.sqrt(np.maximum(variances, max(floor, 1e-24)) / seeds), seeds - 1
    residuals = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + table.mean()
    freedom = (stacks - 1) * (seeds - 1)
    variance = 2 * float((residuals**2).sum()) / freedom
    return np.full(len(pairs), math.sqrt(max(variance, floor, 1e-24) / seeds)), freedom


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Holm-adjusted p-values (Holm 1979).

    Not through statsmodels, whose function runs the garbage collector at each call: a third of a second per cell.
    """
    order = np.argsort(p_values)
    steps = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def detectable_difference(error: float, freedom: int, alpha: float, power: float = POWER) -> float:
    """Smallest true difference that a two-sided t-test finds with probability ``power``.

    Args:
        error: standard error of the mean difference.
        freedom: degrees of freedom.
        alpha: level of the test; for a whole cell the strictest of Holm's levels.
        power: wanted probability.
    """
    critical = -float(special.stdtrit(freedom, alpha / 2))
    # The shift of the noncentral t distribution that leaves 1 - power below the critical value.
    return error * float(special.nctdtrinc(freedom, 1 - power, critical))


@dataclass(frozen=True)
class Pair:
    """Two stacks on the seeds that both have. Differences are those of the first minus those of the second.

    Attributes:
        first: a stack.
        second: another one.
        difference: mean over seeds.
        low: end of its 95 % interval by the paired bootstrap; None with fewer than `FEWEST_RESAMPLED` seeds.
        high: the other end.
        p: of the test by which the cell is ranked, adjusted for all its pairs.
        p_permutation: of the exact paired permutation test, for this pair alone.
        p_wilcoxon: of Wilcoxon's exact signed-rank test, for this pair alone.
        more_seeds: how many more seeds would separate them with 80 % probability, if the difference is what it seems; 0 where
            they are separated; None where more than `MOST_SEEDS` would be needed.
    """

    first: str
    second: str
    difference: float
    low: float | None
    high: float | None
    p: float
    p_permutation: float
    p_wilcoxon: float
    more_seeds: int | None


RESAMPLES = 2000
FEWEST_RESAMPLED = 5
"""Seeds below which the bootstrap would pretend far too much: of three it covers the truth three times out of four."""
MOST_FLIPS = 12
"""Up to so many seeds all sign flips are looked at; with more, 2 ** `MOST_FLIPS` random ones."""
MOST_SEEDS = 1000


def compare(values: Mapping[str, Mapping[int, float]], ranking: Ranking, test: Test = "blocks") -> list[Pair]:
    """Every pair of ranked stacks, in several ways beside the test that ranks.

    Args:
        values: by stack and seed, as given to `rank`.
        ranking: what it returned.
        test: as given to `rank`.
    """
    names = list(ranking.ranks)
    if len(names) < 2:
        return []
    seeds = sorted(set.intersection(*(set(values[name]) for name in names)))
    table = np.array([[values[name][seed] for seed in seeds] for name in names])
    places = [(names.index(a), names.index(b)) for a, b in ranking.p_values]
    differences = np.array([table[a] - table[b] for a, b in places])
    means = differences.mean(1)
    errors, _ = standard_errors(table, places, test)
    lows, highs = bootstrap_interval(differences)
    flips, signed = permutation_p(differences), permutation_p(signed_ranks(differences))
    several = len(seeds) >= FEWEST_RESAMPLED
    stacks = len(names) if test == "blocks" else 2
    return [
        Pair(
            *pair,
            float(means[place]),
            float(lows[place]) if several else None,
            float(highs[place]) if several else None,
            p,
            float(flips[place]),
            float(signed[place]),
            0
            if p < ranking.alpha
            else _more_seeds(abs(means[place]), errors[place], len(seeds), stacks, ranking.alpha / len(places)),
        )
        for place, (pair, p) in enumerate(ranking.p_values.items())
    ]


def _more_seeds(difference: float, error: float, seeds: int, stacks: int, alpha: float) -> int | None:
    """Seeds beyond those at hand until such a difference is found with 80 % probability, errors being what they were."""
    enough = error * math.sqrt(seeds) * _detectable(stacks, alpha)[seeds - 1 :] <= difference
    return int(enough.argmax()) + 1 if enough.any() else None


@functools.cache
def _detectable(stacks: int, alpha: float) -> NDArray[np.float64]:
    """`detectable_difference` for 2 to `MOST_SEEDS` seeds, in standard deviations of a pair's difference."""
    counts = np.arange(2, MOST_SEEDS + 1)
    freedom = (stacks - 1) * (counts - 1)
    shift = special.nctdtrinc(freedom, 1 - POWER, -special.stdtrit(freedom, alpha / 2))
    return np.asarray(shift / np.sqrt(counts))


def bootstrap_interval(
    differences: NDArray[np.float64], level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Percentile intervals of mean differences under resampling of seeds (Efron and Tibshirani 1993).

    Args:
        differences: (pairs, seeds).
        level: of the interval.
    """
    means = differences @ _resampled(differences.shape[1]).T
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=1)
    return low, high


@functools.cache
def _resampled(seeds: int) -> NDArray[np.float64]:
    """(resamples, seeds) weights of the seeds, each row of which sums to 1."""
    drawn = np.random.default_rng(0).integers(0, seeds, (RESAMPLES, seeds))
    return np.asarray((drawn[:, :, None] == np.arange(seeds)).mean(1))


def permutation_p(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two-sided p-values of the paired permutation test, whose statistic is the sum (Fisher 1935).

    Under the hypothesis that two stacks are alike, each seed's difference could as well have the other sign.

    Args:
        differences: (pairs, seeds).
    """
    seeds = differences.shape[1]
    if seeds <= MOST_FLIPS:
        signs = 1 - 2 * ((np.arange(2**seeds)[:, None] >> np.arange(seeds)) & 1)
    else:
        signs = np.random.default_rng(0).choice([-1, 1], (2**MOST_FLIPS, seeds))
        signs[0] = 1  # what was observed is one of the possible outcomes
    sums = np.abs(differences @ signs.T)
    # Sums that are equal but for rounding count as equal.
    return np.asarray((sums >= sums[:, :1] - 1e-12 * np.abs(differences).sum(1, keepdims=True)).mean(1))


def signed_ranks(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks of absolute differences with the differences' signs (Wilcoxon 1945); zeros count nothing, ties share ranks.

    Args:
        differences: (pairs, seeds). Values that agree to 12 digits are tied.
    """
    rounded = np.round(differences, 12)
    absolute = np.where(rounded == 0, np.nan, np.abs(rounded))
    return np.asarray(np.nan_to_num(_ranks(absolute)) * np.sign(rounded))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average ranks along the last axis, from 1; NaN has no rank, and gets 0.5.

    Not through `scipy.stats`, whose import alone takes most of a second of every command that shows a table.
    """
    one, other = values[..., :, None], values[..., None, :]
    return np.asarray((other < one).sum(-1) + ((other == one).sum(-1) + 1) / 2)


@dataclass(frozen=True)
class Overall:
    """Stacks over several cells.

    Attributes:
        average_ranks: by stack, best first; 1 is best in every cell, ties share a rank.
        cells: how many.
        p: of Friedman's test that all stacks are alike.
        critical_difference: average ranks that differ by less are not separated (Nemenyi, 5 %).
    """

    average_ranks: dict[str, float]
    cells: int
    p: float
    critical_difference: float


def over_cells(table: Mapping[str, Sequence[float]]) -> Overall | None:
    """Friedman's test and Nemenyi's critical difference (Demšar 2006); None below three stacks or two cells.

    Args:
        table: by stack, a value for each cell, the greater the better.
    """
    values = np.array(list(table.values()))
    if len(values) < 3 or values.shape[1] < 2:
        return None
    stacks, cells = values.shape
    ranks = _ranks(-values.T).T
    average = dict(zip(table, ranks.mean(1).tolist(), strict=True))
    # Friedman's statistic in the form that stays right with ties (Conover 1999, 5.8).
    middle = (stacks + 1) / 2
    spread = float(((ranks - middle) ** 2).sum())
    found = cells * (stacks - 1) * float(((ranks.mean(1) - middle) ** 2).sum()) * cells / spread if spread else 0.0
    return Overall(
        dict(sorted(average.items(), key=lambda each: each[1])),
        cells,
        float(special.chdtrc(stacks - 1, found)),
        _nemenyi(stacks) * math.sqrt(stacks * (stacks + 1) / (6 * cells)),
    )


NEMENYI = (
    2.3437, 2.5690, 2.7278, 2.8497, 2.9483, 3.0309, 3.1017, 3.1637, 3.2187, 3.2680, 3.3127, 3.3536, 3.3912, 3.4260,
    3.4584, 3.4887, 3.5171, 3.5438,
)  # fmt: skip
"""Quantiles of the studentised range at 5 % over the square root of 2, for three stacks and more (Demšar 2006, table 5)."""


def _nemenyi(stacks: int) -> float:
    if stacks - 3 < len(NEMENYI):
        return NEMENYI[stacks - 3]
    from scipy import stats

    return float(stats.studentized_range.ppf(0.95, stacks, np.inf)) / math.sqrt(2)
