"""Differences of stacks over settings, draws of the noise and seeds, with intervals and the probability of being best.

The model of a score is score = stack x setting + stack x draw + block + error. A block is one seed on one draw (label set) of one
setting; its effect is common to all stacks and cancels in the differences of two stacks on their shared blocks. The stack x draw
effects are random, and each stack has an error variance of its own. What the stack x setting effects are depends on the scope:

`label_sets`: settings and draws are those that were measured, and only seeds vary.
`draws`: settings are those that were measured; draws of their noise and seeds vary.
`settings`: settings vary as well, as a random sample of settings like these.

A difference is the mean over settings of the means over draws of the means over shared seeds, so that each setting counts the
same however many runs it has. Its variance is estimated by the method of moments from the replicates of its scope, which is
unbiased with unequal variances and unequal numbers of seeds: with complete data it is the estimate of restricted maximum
likelihood (REML). Degrees of freedom are Satterthwaite's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from noisybench.leaderboard.pair_model import check_finite

Scope = Literal["label_sets", "draws", "settings"]
Array = NDArray[np.float64]

NUM_VARIANCE_DRAWS, NUM_SCORE_DRAWS = 250, 16
"""Draws of the variances, and draws of the scores for each of them, from which the probability of being best is computed."""
SHRINKAGE_GRID = 40
"""Points of the grid over the shrinkage of the scores."""
PRIOR_DF = 3
"""Degrees of freedom with which the pooled variance of all stacks takes part in that of each stack."""


@dataclass(frozen=True)
class LabelSetScores:
    """Scores of one label set.

    Attributes:
        setting: name of the setting; label sets of one setting are draws of its noise.
        scores: score of each run by stack and seed.
        resolution: step of the scores, see `statistics.rank`.
        is_drawn: whether another seed of the noise would give other labels; clean labels and those of a file have no draws.
    """

    setting: str
    scores: Mapping[str, Mapping[int, float]]
    resolution: float = 0.0
    is_drawn: bool = True


@dataclass(frozen=True)
class Comparison:
    """Differences of each pair of stacks. Arrays have the shape (stacks, stacks), first minus second.

    Attributes:
        stacks: names of the stacks.
        scope: what the intervals generalize to.
        difference: mean differences; NaN for pairs that share no block in one of the settings.
        variance: variances of these; NaN without replicates.
        df: their degrees of freedom.
        shares: their variances if that of the difference of one replicate is 1: 1 / n for the mean of n replicates.
    """

    stacks: tuple[str, ...]
    scope: Scope
    difference: Array
    variance: Array
    df: Array
    shares: Array

    def intervals(self) -> tuple[Array, Array]:
        """Return the lower and upper ends of the 95 % intervals of the differences; each holds for its pair alone."""
        half_width = special.stdtrit(self.df, 0.975) * np.sqrt(self.variance)
        return self.difference - half_width, self.difference + half_width

    def is_tested(self) -> NDArray[np.bool_]:
        """Return for each pair whether it has an interval; True on the diagonal."""
        return np.isfinite(self.difference) & np.isfinite(self.variance) & (self.df > 0) | np.eye(
            len(self.stacks), dtype=bool
        )

    def of(self, indices: Sequence[int]) -> Comparison:
        """Return the comparison of some of the stacks, by index."""
        part = np.ix_(indices, indices)
        stacks = tuple(self.stacks[index] for index in indices)
        return Comparison(
            stacks, self.scope, self.difference[part], self.variance[part], self.df[part], self.shares[part]
        )

    def probability_best(self) -> Array:
        """Return the probability of each stack of being the best of them.

        All pairs must be tested. The probability is the posterior of a hierarchical model in which the true scores of the stacks
        are normal around a common mean with a spread that is estimated as well. Without it, the observed leader of stacks that
        are all alike would be called best far too confidently.

        Example:
            >>> scores = {"a": {0: 0.90, 1: 0.91, 2: 0.92}, "b": {0: 0.70, 1: 0.72, 2: 0.71}, "c": {0: 0.5, 1: 0.51, 2: 0.55}}
            >>> compare_stacks([LabelSetScores("digits", scores)], ["a", "b", "c"], "label_sets").probability_best().round(2)
            array([1., 0., 0.])
        """
        count = len(self.stacks)
        # A fixed seed: the same runs always give the same page.
        rng = np.random.default_rng(0)
        pairs = ~np.eye(count, dtype=bool)
        # Least squares, weighted by replicates: with complete runs the mean difference from all stacks. Equal weights would
        # compare two stacks on the few seeds of a third one.
        replicates = np.where(pairs, 1 / np.where(pairs, self.shares, 1.0), 0.0)
        sums = (replicates * self.difference).sum(1)
        center = np.linalg.pinv(np.diag(replicates.sum(1)) - replicates, hermitian=True) @ sums
        df = np.array([np.median(self.df[index, pairs[index]]) for index in range(count)])
        # Variances of one replicate: those of means also differ by the number of replicates, and must not be pooled.
        single = stack_variances(self.variance * replicates, self.df)
        # A variance from few replicates that happens to be small would make its stack look certain.
        single, df = (df * single + PRIOR_DF * np.average(single, weights=df)) / (df + PRIOR_DF), df + PRIOR_DF
        # The mean of a stack is as certain as its best known difference.
        variance = single / replicates.max(1)
        # (draws, stacks) variances given their estimates.
        drawn = variance * df / rng.chisquare(df, (NUM_VARIANCE_DRAWS, count))
        # The shrinkage of a score of typical variance toward the common mean is uniform between 0 and 1 (Daniels, 1999).
        shrinkage = (np.arange(SHRINKAGE_GRID) + 0.5) / SHRINKAGE_GRID
        spread = np.sqrt(variance.mean() * (1 - shrinkage) / shrinkage)
        # (draws, grid, stacks) weights of the observed scores, and the (draws, grid) likelihood of the spread, in which
        # the common mean is integrated out.
        weight = 1 / (drawn[:, None, :] + spread[:, None] ** 2)
        total = weight.sum(-1)
        mean = (weight * center).sum(-1) / total
        log_likelihood = (
            np.log(weight).sum(-1) - np.log(total) - (weight * (center - mean[..., None]) ** 2).sum(-1)
        ) / 2
        likelihood = np.exp(log_likelihood - log_likelihood.max(1, keepdims=True))
        cumulative = (likelihood / likelihood.sum(1, keepdims=True)).cumsum(1)
        shape = (NUM_VARIANCE_DRAWS, NUM_SCORE_DRAWS)
        chosen = (rng.random((*shape, 1)) > cumulative[:, None, :-1]).sum(-1)
        row = np.arange(NUM_VARIANCE_DRAWS)[:, None]
        common = mean[row, chosen] + rng.standard_normal(shape) / np.sqrt(total[row, chosen])
        between, within = spread[chosen][..., None] ** 2, drawn[:, None, :]
        shrunk = (between * center + within * common[..., None]) / (between + within)
        deviation = np.sqrt(between * within / (between + within))
        best = (shrunk + deviation * rng.standard_normal((*shape, count))).argmax(-1)
        return np.asarray(np.bincount(best.ravel(), minlength=count) / best.size)


def compare_stacks(label_sets: Sequence[LabelSetScores], stacks: Sequence[str], scope: Scope) -> Comparison:
    """Return the differences of all pairs of stacks.

    Args:
        label_sets: scores of at least one label set.
        stacks: stacks to compare.
        scope: what varies from replicate to replicate, see the module.

    Raises:
        ValueError: a score is infinite or NaN.

    Example:
        >>> scores = {"a": {0: 0.90, 1: 0.91, 2: 0.92}, "b": {0: 0.70, 1: 0.72, 2: 0.71}}
        >>> comparison = compare_stacks([LabelSetScores("digits", scores)], ["a", "b"], "label_sets")
        >>> low, high = comparison.intervals()
        >>> comparison.difference[0].round(3), low[0, 1].round(3), high[0, 1].round(3), comparison.df[0, 1]
        (array([0. , 0.2]), np.float64(0.175), np.float64(0.225), np.float64(2.0))
    """
    settings: dict[str, list[LabelSetScores]] = {}
    for label_set in label_sets:
        check_finite(label_set.scores)
        settings.setdefault(label_set.setting, []).append(label_set)
    # Each group of replicates: its mean, their variance and number, its weight, and the variance of rounding of its mean.
    groups: list[tuple[Array, Array, Array, float]] = []
    setting_means: list[Array] = []
    floor = 0.0
    for draws in settings.values():
        over_seeds = [_moments(_differences(draw.scores, stacks)) for draw in draws]
        over_draws = _moments(np.stack([mean for mean, _, _ in over_seeds]))
        setting_means.append(over_draws[0])
        # Rounding to a step h has the variance h^2 / 12, and a difference contains two roundings.
        rounding = sum(draw.resolution**2 / 6 / max(map(len, draw.scores.values())) for draw in draws) / len(draws) ** 2
        floor += rounding / len(settings) ** 2
        is_drawn = any(draw.is_drawn for draw in draws)
        if scope == "draws" and is_drawn:
            groups.append((*over_draws, 1 / len(settings)))
        elif scope != "settings":
            groups += [(*moments, 1 / (len(settings) * len(draws))) for moments in over_seeds]
    if scope == "settings":
        groups.append((*_moments(np.stack(setting_means)), 1.0))
        # A setting that one of the two stacks lacks would change the sample of settings from pair to pair.
        groups[0][0][np.isnan(np.stack(setting_means)).any(0)] = np.nan
    difference = np.sum([weight * mean for mean, _, _, weight in groups], axis=0)
    variance, df, shares = _combined_variance(groups)
    return Comparison(tuple(stacks), scope, difference, np.maximum(variance, max(floor, 1e-24)), df, shares)


def _differences(scores: Mapping[str, Mapping[int, float]], stacks: Sequence[str]) -> Array:
    """Return (seeds, stacks, stacks) differences, NaN where one of the two has no run."""
    seeds = sorted(set().union(*(scores.get(stack, {}) for stack in stacks))) or [0]
    table = np.array([[scores.get(stack, {}).get(seed, np.nan) for stack in stacks] for seed in seeds])
    return np.asarray(table[:, :, None] - table[:, None, :])


def _moments(replicates: Array) -> tuple[Array, Array, Array]:
    """Return mean, variance and number of the replicates on the first axis that are not NaN."""
    known = ~np.isnan(replicates)
    count = known.sum(0)
    filled = np.where(known, replicates, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = filled.sum(0) / count
        squares = (np.where(known, filled - mean, 0.0) ** 2).sum(0)
        return mean, np.where(count > 1, squares / (count - 1), np.nan), count.astype(float)


def _combined_variance(groups: Sequence[tuple[Array, Array, Array, float]]) -> tuple[Array, Array, Array]:
    """Return the variance of the weighted sum of the groups' means, its degrees of freedom, and its `Comparison.shares`.

    A group with a single replicate takes the pooled variance of the others.
    """
    variances = np.stack([variance for _, variance, _, _ in groups])
    counts = np.stack([count for _, _, count, _ in groups])
    weights = np.array([weight for _, _, _, weight in groups])[:, None, None]
    dfs = np.maximum(counts - 1, 0.0)
    has_replicates = dfs > 0
    total_df = dfs.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = weights**2 / counts
        borrowed = np.where(has_replicates, 0.0, shares).sum(0)
        coefficients = np.where(has_replicates, shares + borrowed * dfs / total_df, 0.0)
        terms = coefficients * np.where(has_replicates, variances, 0.0)
        variance = np.where(total_df > 0, terms.sum(0), np.nan)
        # Satterthwaite's formula without the bias from estimating the variances that it contains (Welch, 1947): with few
        # replicates per group the plain one loses half of the degrees of freedom.
        df = terms.sum(0) ** 2 / (terms**2 / (dfs + 2)).sum(0) - 2
    fewest = np.where(has_replicates, dfs, np.inf).min(0)
    # Pairs without any variation are left to the variance of rounding.
    df = np.where(total_df > 0, np.clip(np.nan_to_num(df, nan=np.inf), np.minimum(fewest, total_df), total_df), 0.0)
    return variance, df, shares.sum(0)


def stack_variances(pair_variances: Array, df: Array) -> Array:
    """Return the variance of each stack from those of the differences of pairs, which are sums of two of them.

    Args:
        pair_variances: (stacks, stacks) variances of differences.
        df: (stacks, stacks) their degrees of freedom, the weights of a least-squares fit.

    Example:
        >>> stack_variances(np.array([[0.0, 3.0, 4.0], [3.0, 0.0, 5.0], [4.0, 5.0, 0.0]]), np.ones((3, 3))).round(6)
        array([1., 2., 3.])
    """
    count = len(pair_variances)
    if count == 2:
        # One difference cannot be divided between its stacks.
        return np.full(2, pair_variances[0, 1] / 2)
    weights = np.where(np.eye(count, dtype=bool), 0.0, df)
    sums = (weights * pair_variances).sum(1)
    estimates = np.linalg.solve(weights + np.diag(weights.sum(1)), sums)
    # An estimate by subtraction may be negative.
    return np.asarray(np.maximum(estimates, sums.sum() / weights.sum() / 20))
