"""Comparisons of two stacks on their common seeds: bootstrap interval, permutation test, Wilcoxon's test, additional seeds."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisybench.leaderboard.pair_model import PairModel
from noisybench.leaderboard.statistics import Ranking, average_ranks

NUM_RESAMPLES = 2000
"""Resamples of the bootstrap."""
MIN_BOOTSTRAP_SEEDS = 5
"""Fewest seeds for a bootstrap interval; with three seeds a 95 % interval covers the truth three times out of four."""
MAX_EXACT_SEEDS = 12
"""Most seeds for which all sign flips are enumerated; with more, 2 ** `MAX_EXACT_SEEDS` random ones are drawn."""


@dataclass(frozen=True)
class Pair:
    """Two stacks on their common seeds. Differences are first minus second.

    Attributes:
        first: first stack.
        second: second stack.
        difference: mean difference over seeds.
        low: lower end of its 95 % interval by the paired bootstrap; None with fewer than `MIN_BOOTSTRAP_SEEDS` seeds.
        high: upper end of the interval.
        p: p-value of the ranking test, adjusted for all pairs of the setting.
        p_permutation: p-value of the exact paired permutation test for this pair alone.
        p_wilcoxon: p-value of Wilcoxon's exact signed-rank test for this pair alone.
        additional_seeds: number of further seeds that separate the stacks with 80 % power, if the observed difference is the
            true one; 0 if they are separated; None if more than `MAX_SEEDS` are needed.
    """

    first: str
    second: str
    difference: float
    low: float | None
    high: float | None
    p: float
    p_permutation: float
    p_wilcoxon: float
    additional_seeds: int | None


def compare(values: Mapping[str, Mapping[int, float]], ranking: Ranking) -> list[Pair]:
    """Compare every pair of ranked stacks.

    Args:
        values: value of each run by stack and seed, as passed to `rank`.
        ranking: result of `rank`.

    Example:
        >>> from noisybench.leaderboard.statistics import rank
        >>> values = {"a": {0: 0.90, 1: 0.91, 2: 0.92}, "b": {0: 0.70, 1: 0.72, 2: 0.71}}
        >>> pair, = compare(values, rank(values))
        >>> round(pair.difference, 2), pair.p_permutation, pair.additional_seeds
        (0.2, 0.25, 0)
    """
    model = ranking.model
    if model is None:
        return []
    # The strictest level, as for the minimum detectable difference.
    alike = np.flatnonzero(np.array(list(ranking.p_values.values())) >= ranking.alpha)
    additional = dict(zip(alike.tolist(), model.additional_seeds(ranking.level, alike), strict=True))
    pairs: list[Pair | None] = [None] * len(model.pairs)
    # Pairs with the same number of shared seeds are resampled together.
    for seeds in np.unique(model.seeds):
        indices = np.flatnonzero(model.seeds == seeds)
        differences = _differences(values, model, indices)
        lows, highs = bootstrap_interval(differences)
        # Wilcoxon's test is the permutation test of the signed ranks; enumerating it stays exact with ties and zeros, for
        # which tables of its distribution do not hold.
        p_permutation, p_wilcoxon = permutation_p(differences), permutation_p(signed_ranks(differences))
        has_interval = seeds >= MIN_BOOTSTRAP_SEEDS
        for row, index in enumerate(indices):
            first, second = (model.stacks[stack] for stack in model.pairs[index])
            p = ranking.p_values[first, second]
            pairs[index] = Pair(
                first,
                second,
                float(model.differences[index]),
                float(lows[row]) if has_interval else None,
                float(highs[row]) if has_interval else None,
                p,
                float(p_permutation[row]),
                float(p_wilcoxon[row]),
                additional.get(int(index), 0),
            )
    return [pair for pair in pairs if pair is not None]


def _differences(
    values: Mapping[str, Mapping[int, float]], model: PairModel, indices: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the (pairs, seeds) differences of pairs that have the same number of shared seeds."""
    rows = []
    for index in indices:
        first, second = (values[model.stacks[stack]] for stack in model.pairs[index])
        rows.append([first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())])
    return np.array(rows)


def bootstrap_interval(
    differences: NDArray[np.float64], level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return percentile intervals of mean differences under resampling of seeds (Efron and Tibshirani, 1993).

    Args:
        differences: (pairs, seeds) differences.
        level: coverage of the interval.

    Returns:
        (pairs,) lower and upper ends.

    Example:
        >>> low, high = bootstrap_interval(np.array([[1.0, 1.0, 1.0, 1.0, 1.0]]))
        >>> low.round(6), high.round(6)
        (array([1.]), array([1.]))
    """
    weights, counts = _bootstrap_weights(differences.shape[1])
    # One matrix product instead of gathering a (pairs, resamples, seeds) array.
    means, tail = differences @ weights.T, (1 - level) / 2
    return _lower_quantile(means, counts, tail), -_lower_quantile(-means, counts, tail)


def _lower_quantile(means: NDArray[np.float64], counts: NDArray[np.int64], fraction: float) -> NDArray[np.float64]:
    """Return a (pairs,) quantile of all resamples near their smallest mean, by linear interpolation as that of NumPy.

    Args:
        means: (pairs, distinct) means of the distinct resamples.
        counts: (distinct,) number of times that each was drawn, at least 1.
        fraction: fraction of the resamples below the quantile.
    """
    position = fraction * (NUM_RESAMPLES - 1)
    num_smallest = min(math.ceil(position) + 1, len(counts))
    smallest = means.argpartition(num_smallest - 1, 1)[:, :num_smallest]
    order = np.take_along_axis(smallest, np.take_along_axis(means, smallest, 1).argsort(1), 1)
    num_drawn = counts[order].cumsum(1)
    below, above = (
        np.take_along_axis(means, np.take_along_axis(order, (num_drawn <= index).sum(1)[:, None], 1), 1)[:, 0]
        for index in (math.floor(position), math.ceil(position))
    )
    return np.asarray(below + (above - below) * (position % 1))


@functools.cache
def _bootstrap_weights(seeds: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the (distinct, seeds) weights of the seeds in distinct resamples, and how often each was drawn.

    Five seeds have 126 distinct resamples, whose quantiles take a fraction of the time for `NUM_RESAMPLES`.
    """
    # A fixed seed: all pairs share their resamples, and the same runs always give the same page.
    drawn = np.random.default_rng(0).integers(0, seeds, (NUM_RESAMPLES, seeds))
    weights, counts = np.unique((drawn[:, :, None] == np.arange(seeds)).mean(1), axis=0, return_counts=True)
    return weights, counts


def permutation_p(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return two-sided p-values of the paired permutation test with the sum as its statistic (Fisher, 1935).

    If two stacks are equal, the difference of each seed could as well have the opposite sign.

    Args:
        differences: (pairs, seeds) differences.

    Example:
        >>> permutation_p(np.array([[1.0, 2.0, 3.0], [1.0, -1.0, 0.5]]))
        array([0.25, 1.  ])
    """
    seeds = differences.shape[1]
    if seeds <= MAX_EXACT_SEEDS:
        # (2 ** seeds, seeds): the bits of each number are the flips; row 0 flips nothing and is the observed outcome.
        signs = 1 - 2 * ((np.arange(2**seeds)[:, None] >> np.arange(seeds)) & 1)
    else:
        signs = np.random.default_rng(0).choice([-1, 1], (2**MAX_EXACT_SEEDS, seeds))
        signs[0] = 1  # the observed outcome is one of the possible ones, which keeps the test valid
    sums = np.abs(differences @ signs.T)
    # Sums that differ only by rounding count as equal.
    return np.asarray((sums >= sums[:, :1] - 1e-12 * np.abs(differences).sum(1, keepdims=True)).mean(1))


def signed_ranks(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks of absolute differences with the signs of the differences (Wilcoxon, 1945).

    Zeros are dropped and get 0; ties share their average rank.

    Args:
        differences: (pairs, seeds) differences. Values that agree to 12 digits are ties.

    Example:
        >>> signed_ranks(np.array([[0.3, -0.1, 0.0, 0.2]]))
        array([[ 3., -1.,  0.,  2.]])
    """
    # Equal differences of accuracies may differ in their last bits, which would break their ties arbitrarily.
    rounded = np.round(differences, 12)
    absolute = np.where(rounded == 0, np.nan, np.abs(rounded))
    return np.asarray(np.nan_to_num(average_ranks(absolute)) * np.sign(rounded))
