"""The breakdown point of a stack: the noise rate up to which it is not below cross-entropy at half that rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

GRID_SIZE = 600
"""Number of rates at which the ends of the interval of a breakdown point are looked for."""


@dataclass(frozen=True)
class Breakdown:
    """Rate up to which a stack is not below cross-entropy at half that rate.

    Attributes:
        rate: the rate; the largest measured one if `state` is ``above``, the smallest possible one if it is ``below``.
        state: ``inside``, ``above`` if the stack is not below at the largest rate, or ``below`` if it is below at every rate.
        low: largest rate at which the stack is significantly above; None if there is none, or with one seed.
        high: largest rate at which it is not significantly below; None with one seed.
        largest: largest measured rate, at which `low` and `high` are censored.
    """

    rate: float
    state: Literal["inside", "above", "below"]
    low: float | None
    high: float | None
    largest: float


def shared_seeds(values: Sequence[Mapping[int, float]]) -> list[int]:
    """Return the seeds that have a score at every rate.

    Example:
        >>> shared_seeds([{0: 0.5, 1: 0.6}, {1: 0.4}])
        [1]
    """
    return sorted(set.intersection(*(set(each) for each in values))) if values else []


def score_matrix(values: Sequence[Mapping[int, float]], seeds: Sequence[int]) -> NDArray[np.float64]:
    """Return (seeds, rates) scores."""
    return np.array([[each[seed] for each in values] for seed in seeds])


def find_breakdown(
    rates: Sequence[float],
    values: Sequence[Mapping[int, float]],
    baseline: Sequence[Mapping[int, float]],
    resolution: float,
) -> Breakdown | None:
    """Return the breakdown point; its interval holds the rates at which a paired t-test separates the stacks neither way.

    Args:
        rates: measured rates in rising order.
        values: score of the stack by seed at each rate.
        baseline: score of cross-entropy by seed at each rate; empty without it.
        resolution: step of the scores.

    Returns:
        The breakdown point; None if cross-entropy was not measured at half of any rate with a common seed.

    Example:
        >>> curve, baseline = [{0: 0.9}, {0: 0.8}, {0: 0.5}], [{0: 0.9}, {0: 0.7}, {0: 0.5}]
        >>> round(find_breakdown([0.0, 0.2, 0.4], curve, baseline, 0.0).rate, 2)
        0.2
    """
    seeds = shared_seeds([*values, *baseline]) if baseline else []
    # Cross-entropy must have been measured at half of the rate, or on both sides of it.
    smallest, largest = 2 * rates[0], rates[-1]
    if not seeds or smallest >= largest:
        return None
    knots = [rate for rate in (*rates, *(2 * rate for rate in rates)) if smallest <= rate <= largest]
    grid = np.unique([*knots, *np.linspace(smallest, largest, GRID_SIZE)])
    own, other = score_matrix(values, seeds), score_matrix(baseline, seeds)
    # (seeds, grid) scores of the stack minus those of cross-entropy at half the rate.
    gaps = np.array(
        [np.interp(grid, rates, a) - np.interp(grid / 2, rates, b) for a, b in zip(own, other, strict=True)]
    )
    mean = gaps.mean(0)
    found = _last_crossing(grid, mean)
    state: Literal["inside", "above", "below"] = "inside"
    if found is None:
        state = "below"
    elif found >= largest:
        state = "above"
    rate = smallest if found is None else found
    if len(seeds) < 2:
        return Breakdown(rate, state, None, None, largest)
    # Scores have a step, of which a difference contains two.
    deviation = np.maximum(gaps.std(0, ddof=1), resolution / math.sqrt(6))
    half = special.stdtrit(len(seeds) - 1, 0.975) * deviation / math.sqrt(len(seeds))
    high = _last_crossing(grid, mean + half)
    return Breakdown(rate, state, _last_crossing(grid, mean - half), smallest if high is None else high, largest)


def _last_crossing(grid: NDArray[np.float64], gaps: NDArray[np.float64]) -> float | None:
    """Return the last rate at which a gap is not negative, interpolated; None if all are negative."""
    # Differences that are equal but for rounding are not below.
    above = np.flatnonzero(gaps >= -1e-12)
    if not above.size:
        return None
    last = int(above[-1])
    if last + 1 == len(grid):
        return float(grid[-1])
    share = max(gaps[last], 0.0) / (max(gaps[last], 0.0) - gaps[last + 1])
    return float(grid[last] + share * (grid[last + 1] - grid[last]))
