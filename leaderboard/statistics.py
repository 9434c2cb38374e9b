"""Means with their uncertainty, and which differences the seeds can show.

Every stack of a cell is trained on the same seeds (blocks), so stacks are compared within seeds. Two tests:

`blocks`: a randomised block design. value = stack + seed + error with one error variance for all stacks, estimated
from all of them together with (stacks - 1) * (seeds - 1) degrees of freedom. It is the default, because with three
seeds a variance estimated from one pair alone says next to nothing.

`paired_t`: for each pair the t-test on its own differences; assumes nothing about other stacks, needs more seeds.

Both are two-sided and corrected over all pairs of the cell by Holm's step-down method (Holm 1979).
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
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Summary(mean, None, None, None, count)
    deviation = float(np.std(values, ddof=1))
    half = float(special.stdtrit(count - 1, 0.975)) * deviation / math.sqrt(count)
    return Summary(mean, deviation, mean - half, mean + half, count)


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
    pairs = list(itertools.combinations(range(len(tested)), 2))
    differences = np.array([table[a].mean() - table[b].mean() for a, b in pairs])
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
