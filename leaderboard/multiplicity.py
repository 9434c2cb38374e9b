"""Corrections for the number of pairs: closed testing for `moderated_t`, and Holm's step-down method for the other tests.

Closed testing with the studentized range (Begun and Gabriel, 1981): two stacks are separated if every set of stacks with both of
them contains a significant pair. The smallest p-value of a set is adjusted by the distribution of the studentized range
(Tukey), which for ten stacks takes half of Bonferroni's correction. The level is shared among disjoint sets in proportion to
their size (Ryan, 1960). A stack that is separated from all others is equal to none, so it needs no share.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from scipy import special

from noisybench.leaderboard.pair_model import PairModel, Test

Array = NDArray[np.float64]

LOG_P_VALUES = np.linspace(np.log(1e-12), 0.0, 80)
"""Logarithms of the p-values of single pairs for which the distribution of the smallest one is tabulated."""
NUM_NODES = 40
"""Nodes of each of the two numerical integrals."""


def adjusted_p_values(model: PairModel, test: Test, alpha: float) -> NDArray[np.float64]:
    """Return the (..., pairs) p-values of a test, adjusted for the number of pairs.

    Args:
        model: differences of all pairs, fitted for the test.
        test: see `rank`.
        alpha: family-wise error rate.

    Example:
        >>> from noisybench.leaderboard.pair_model import fit_table
        >>> model = fit_table(np.array([[0.90, 0.91, 0.92], [0.70, 0.72, 0.71], [0.50, 0.52, 0.53]]), "anova")
        >>> adjusted_p_values(model, "anova", 0.05).round(6)
        array([7.e-06, 1.e-06, 7.e-06])
    """
    if test == "moderated_t":
        return closed_p_values(model.p_values, model.pairs, model.pooled_df, alpha)
    return holm(model.p_values)


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Holm-adjusted p-values along the last axis (Holm, 1979).

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03]))
        array([0.03, 0.06, 0.06])
    """
    # statsmodels runs the garbage collector at each call, a third of a second per setting.
    order = np.argsort(p_values, -1)
    steps = np.take_along_axis(p_values, order, -1) * np.arange(p_values.shape[-1], 0, -1)
    adjusted = np.empty_like(p_values)
    # Step-down: no adjusted p-value may be below that of a pair with a smaller p-value.
    np.put_along_axis(adjusted, order, np.minimum(np.maximum.accumulate(steps, -1), 1.0), -1)
    return adjusted


def closed_p_values(p_values: Array, pairs: NDArray[np.int64], df: float, alpha: float) -> Array:
    """Return the p-values of pairs, adjusted for their number; they are exact at the level alpha.

    Args:
        p_values: (..., pairs) p-values of single pairs.
        pairs: (pairs, 2) indices of stacks; all pairs of them.
        df: degrees of freedom of the t-tests.
        alpha: level at which stacks are separated.

    Example:
        >>> pairs = np.array([[0, 1], [0, 2], [1, 2]])
        >>> closed_p_values(np.array([0.01, 0.04, 0.50]), pairs, df=10.0, alpha=0.05).round(3)
        array([0.025, 0.04 , 0.5  ])
    """
    stacks = int(pairs.max()) + 1
    flat = p_values.reshape(-1, len(pairs))
    smallest = _smallest_in_sets(flat, pairs, stacks)
    tables = _smallest_p_distributions(stacks, df)
    adjusted = np.ones_like(flat)
    open_stacks, rows = np.full(len(flat), stacks), np.arange(len(flat))
    while len(rows):
        before = open_stacks[rows]
        for count in np.unique(before):
            chosen = rows[before == count]
            own = adjusted[chosen]
            # Sets that an open pair belongs to; more than the open stacks cannot be equal.
            by_size = [
                np.interp(np.log(smallest[chosen, :, size - 2]), LOG_P_VALUES, tables[size - 2])
                + _log_share(size, count)
                for size in range(2, count + 1)
            ]
            found = np.exp(np.minimum(np.max(by_size, 0), 0.0))
            # Pairs that are separated because of others have at least the p-values of these.
            separated = np.where(own < alpha, own, 0.0)
            adjusted[chosen] = np.where(own < alpha, own, np.maximum(found, separated.max(-1, keepdims=True)))
        is_open = adjusted[rows] >= alpha
        open_stacks[rows] = [len(np.unique(pairs[own])) for own in is_open]
        rows = rows[(open_stacks[rows] < before) & (open_stacks[rows] > 1)]
    return adjusted.reshape(p_values.shape)


def strictest_level(model: PairModel, test: Test, alpha: float) -> float:
    """Return the p-value of a single pair below which it is separated whatever the p-values of the other pairs are.

    Example:
        >>> from noisybench.leaderboard.pair_model import fit_table
        >>> model = fit_table(np.array([[0.90, 0.91, 0.92], [0.70, 0.72, 0.71], [0.50, 0.52, 0.53]]))
        >>> round(strictest_level(model, "moderated_t", 0.05), 4), round(strictest_level(model, "anova", 0.05), 4)
        (0.0235, 0.0167)
    """
    if test != "moderated_t":
        return alpha / len(model.pairs)
    stacks = int(model.pairs.max()) + 1
    tables = _smallest_p_distributions(stacks, model.pooled_df)
    sizes = range(2, stacks + 1)
    levels = [np.interp(np.log(alpha) - _log_share(size, stacks), tables[size - 2], LOG_P_VALUES) for size in sizes]
    return float(np.exp(min(levels)))


def _log_share(size: int, stacks: int) -> float:
    """Return the logarithm of the factor for a set of some of the stacks: one other stack alone can be equal to none."""
    return float(np.log(stacks / size)) if stacks - size > 1 else 0.0


def _smallest_in_sets(p_values: Array, pairs: NDArray[np.int64], stacks: int) -> Array:
    """Return (tables, pairs, stacks - 1) bounds on the smallest p-value of any set with a pair, by the size of the set from 2.

    A set of s stacks contains s - 2 besides the pair, each of which has p-values with both stacks of the pair. Pairs among these
    others are not looked at, since there are too many sets; the bound is the largest possible p-value, which is safe.
    """
    first, second = pairs.T
    matrix = np.zeros((len(p_values), stacks, stacks))
    matrix[:, first, second] = matrix[:, second, first] = p_values
    # The diagonal is 0, so the stacks of the pair come last.
    others = -np.sort(-np.minimum(matrix[:, first], matrix[:, second]), -1)[..., : stacks - 2]
    bounds = np.maximum(
        np.minimum(p_values[..., None], np.concatenate([np.ones_like(p_values)[..., None], others], -1)), 1e-300
    )
    return np.asarray(bounds)


@functools.lru_cache(maxsize=64)
def _smallest_p_distributions(stacks: int, df: float) -> Array:
    """Return (stacks - 1, p-values) logarithms of the chance that a pair of 2, 3, ... equal stacks has a smaller p-value."""
    p_values = np.exp(LOG_P_VALUES)
    ranges = -np.sqrt(2) * special.stdtrit(df, p_values / 2)
    nodes, weights = np.polynomial.legendre.leggauss(NUM_NODES)
    normal, density = 8 * nodes, 8 * weights * np.exp(-32 * nodes**2) / np.sqrt(2 * np.pi)
    # The pooled standard deviation over the true one, at the quantiles of the normal nodes.
    deviations = np.sqrt(2 / df * special.gammaincinv(df / 2, special.ndtr(normal)))
    # The best stack has the normal value, and all others are at most the range below it.
    below = special.ndtr(normal)
    within = below - special.ndtr(normal - ranges[:, None, None] * deviations[:, None])
    all_below, all_within = np.ones_like(below), np.ones_like(within)
    distributions = []
    for size in range(2, stacks + 1):
        all_below, all_within = all_below * below, all_within * within
        chances = (size * density * (all_below - all_within)).sum(-1) @ density
        distributions.append(np.log(np.clip(chances, p_values, np.minimum(size * (size - 1) / 2 * p_values, 1.0))))
    return np.array(distributions)
