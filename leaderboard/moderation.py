"""Moderated variances: the difference of two stacks has the variance of all stacks as far as their own spreads allow.

Hypotheses state how the standard deviations of the two stacks relate to those of the others: they are equal, or one or both
are larger by one of `RATIOS`. Given a hypothesis, all residuals together estimate one variance, and the test of the pair is a
t-test. The likelihood of the residuals decides how much each hypothesis counts.

The constants were chosen by simulation, see `docs/protocol.md`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RATIOS = (4.0, 16.0, 64.0, 256.0, 1024.0)
"""Ratios of a larger standard deviation to that of the other stacks."""
LARGER = ((True, False), (False, True), (True, True))
"""Which stacks of a pair have the larger standard deviation."""
HYPOTHESES = np.array([(1.0, 1.0), *((r if a else 1.0, r if b else 1.0) for a, b in LARGER for r in RATIOS)])
"""(hypotheses, 2) standard deviations of the two stacks of a pair, in units of that of the others."""
LARGER_ODDS = (0.16, 0.16, 0.08)
"""Prior odds of `LARGER` with each of `RATIOS` against equal spreads, for up to `FEW_STACKS` stacks."""
FEW_STACKS = 5
"""Most stacks with these odds; they fall with the root of more, because single pairs are then tested at smaller levels."""
SHARPNESS = 2.0
"""Power of the odds in the weights; with 1, hypotheses that the data contradict would still cost power."""
EXTREME_RATIO = 16.0
"""Smallest ratio with which a stack counts less in the variance of other pairs. In their weights it always counts less.

If a ratio of 4 were enough, pairs without the unstable stack would add their errors to those of its own pairs.
"""
SMALLEST = 1e-30
"""Smallest sum of squares and number of other stacks, which avoid a logarithm of zero and a division by it."""


def moderate(residuals: Array, present: NDArray[np.bool_], pairs: NDArray[np.int64], df: int) -> tuple[Array, Array]:
    """Return the weights of the hypotheses about each pair, and the variances of its difference under them.

    Args:
        residuals: (..., stacks, seeds) residuals of value = stack + seed + error for three or more stacks; 0 without a run.
        present: (stacks, seeds) which runs there are.
        pairs: (pairs, 2) indices of stacks.
        df: degrees of freedom of the residuals.

    Returns:
        (hypotheses, ..., pairs) weights, which sum to 1, and (hypotheses, ..., pairs) variances of the difference of one seed.
        The first hypothesis is that of equal spreads.

    Example:
        >>> residuals = np.array([[0.5, -0.3, -0.2], [-0.4, 0.2, 0.2], [-0.1, 0.1, 0.0]])
        >>> pairs = np.array([[0, 1], [0, 2], [1, 2]])
        >>> weights, variances = moderate(residuals, np.ones((3, 3), bool), pairs, df=4)
        >>> weights[0].round(2), variances[0].round(2)
        (array([0.3 , 0.63, 0.96]), array([0.32, 0.32, 0.3 ]))
    """
    ratio_weights = _ratio_weights(residuals, present, df)
    counts = 1 / np.array([1.0, *RATIOS]) ** 2
    # An unstable stack that counted in the weights of other pairs would hide a second one.
    log_likelihoods, _ = _fit_hypotheses(residuals, present, np.tensordot(counts, ratio_weights, 1), pairs, df)
    counts[1:][np.array(RATIOS) < EXTREME_RATIO] = 1.0
    _, variances = _fit_hypotheses(residuals, present, np.tensordot(counts, ratio_weights, 1), pairs, df)
    odds = np.repeat(LARGER_ODDS, len(RATIOS)) * min(1.0, math.sqrt(FEW_STACKS / len(present)))
    return _weights(log_likelihoods, odds), variances


def _fit_hypotheses(
    residuals: Array, present: NDArray[np.bool_], precisions: Array, pairs: NDArray[np.int64], df: int
) -> tuple[Array, Array]:
    """Return the (hypotheses, ..., pairs) log-likelihoods and variances, given the (..., stacks) weights of other stacks."""
    first, second = pairs.T
    has_first, has_second = present[first], present[second]
    others, rest, common = _other_stacks(residuals, present, precisions, pairs)
    own_first = (residuals[..., first, :] - others) * has_first
    own_second = (residuals[..., second, :] - others) * has_second
    # Seeds that only one of the stacks has still show its spread; those that no other has show only their difference.
    has_others = present.sum(0) > has_first.astype(int) + has_second
    only_first, only_second = has_first & ~has_second & has_others, has_second & ~has_first & has_others
    shared, only_both = has_first & has_second & has_others, has_first & has_second & ~has_others
    squares_first, squares_second = ((own**2 * shared).sum(-1) for own in (own_first, own_second))
    alone_first, alone_second = (own_first**2 * only_first).sum(-1), (own_second**2 * only_second).sum(-1)
    products = (own_first * own_second * shared).sum(-1)
    differences = ((own_first - own_second) ** 2 * only_both).sum(-1)
    # One row per hypothesis.
    ratio_first, ratio_second = HYPOTHESES.T.reshape(2, -1, *[1] * squares_first.ndim)
    # Both deviate from the same mean of the others, which makes them dependent.
    of_first, of_second = ratio_first**2 + common, ratio_second**2 + common
    determinant = of_first * of_second - common**2
    scaled = (of_second * squares_first + of_first * squares_second - 2 * common * products) / determinant
    of_difference = ratio_first**2 + ratio_second**2
    scaled += alone_first / of_first + alone_second / of_second + differences / of_difference
    total = np.maximum(rest + scaled, SMALLEST)
    log_determinant = (
        (shared.sum(-1) - 1) * np.log(determinant)
        + only_first.sum(-1) * np.log(of_first)
        + only_second.sum(-1) * np.log(of_second)
        + only_both.sum(-1) * np.log(of_difference)
    )
    return -(log_determinant + df * np.log(total)) / 2, of_difference * total / df


def _ratio_weights(residuals: Array, present: NDArray[np.bool_], df: int) -> Array:
    """Return the (1 + ratios, ..., stacks) weights of equal spreads and of a stack's larger one by each of `RATIOS`."""
    equal = np.ones(residuals.shape[:-1])
    others, rest, common = _other_stacks(residuals, present, equal, np.arange(len(present))[:, None])
    squares = ((residuals - others) ** 2 * present).sum(-1)
    log_likelihoods = []
    for ratio in (1.0, *RATIOS):
        variance = ratio**2 + common
        total = np.maximum(rest + squares / variance, SMALLEST)
        log_likelihoods.append(-((present.sum(-1) - 1) * np.log(variance) + df * np.log(total)) / 2)
    return _weights(np.array(log_likelihoods), np.full(len(RATIOS), sum(LARGER_ODDS)))


def _other_stacks(
    residuals: Array, present: NDArray[np.bool_], precisions: Array, groups: NDArray[np.int64]
) -> tuple[Array, Array, Array]:
    """Return the means, by seed, of all stacks outside of each group, and the squares around them.

    Args:
        residuals: see `moderate`.
        present: see `moderate`.
        precisions: (..., stacks) weights of the stacks.
        groups: (groups, size) indices of the stacks of each group.

    Returns:
        (..., groups, seeds) weighted means, (..., groups) weighted sums of squares, and (..., groups) variances of a mean on the
        seeds of the group, in units of that of one run.
    """
    weights = precisions[..., None] * present
    outside = (groups[:, :, None] != np.arange(len(present))).all(1).astype(float)
    weight = outside @ weights
    means = outside @ (weights * residuals) / np.maximum(weight, SMALLEST)
    squares = (outside @ (weights * residuals**2) - weight * means**2).sum(-1)
    seeds = present[groups].any(1) & (outside @ present > 0)
    return means, np.maximum(squares, 0.0), seeds.sum(-1) / np.maximum((weight * seeds).sum(-1), SMALLEST)


def _weights(log_likelihoods: Array, odds: Array) -> Array:
    """Return the weights of hypotheses, which sum to 1.

    Args:
        log_likelihoods: (hypotheses, ...) log-likelihoods; the first hypothesis is that of equal spreads.
        odds: (hypotheses - 1,) prior odds of the others against the first.
    """
    equal, unequal = log_likelihoods[0], log_likelihoods[1:]
    largest = unequal.max(0)
    likelihoods = np.exp(unequal - largest) * odds.reshape(-1, *[1] * largest.ndim)
    log_odds = largest + np.log(likelihoods.sum(0)) - equal
    # The clip only avoids an overflow.
    is_unequal = 1 / (1 + np.exp(-np.clip(SHARPNESS * log_odds, -500, 500)))
    return np.concatenate([(1 - is_unequal)[None], is_unequal * likelihoods / likelihoods.sum(0)])
