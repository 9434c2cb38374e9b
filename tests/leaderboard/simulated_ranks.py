"""Simulated tables of scores with known truth, and how often the ranking tests err on them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from noisybench.leaderboard.multiplicity import adjusted_p_values
from noisybench.leaderboard.pair_model import Test, fit_table

Array = np.ndarray
ALPHA = 0.05
NUM_TEST = 360
"""Test examples of the simulated accuracies."""


@dataclass(frozen=True)
class Case:
    """A kind of table in which some stacks are equal.

    Attributes:
        name: what is simulated.
        draw: function from a generator and (tables, stacks, seeds) to values.
        resolution: step of the values.
        groups: function from the number of stacks to the group of each; stacks of one group are equal.
    """

    name: str
    draw: Callable[[np.random.Generator, tuple[int, int, int]], Array]
    resolution: float = 0.0
    groups: Callable[[int], Array] = lambda stacks: np.zeros(stacks, int)


def normal(unstable: int, rng: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    """Normal scores with seed effects; the first stacks have four times the spread."""
    spread = np.where(np.arange(shape[1]) < unstable, 4.0, 1.0)
    return rng.normal(size=shape) * spread[:, None] + 2 * rng.normal(size=(shape[0], 1, shape[2]))


def ragged(unstable: int, rng: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    """Normal scores of which about a quarter of the runs are missing, at the same places in all tables."""
    values = normal(unstable, rng, shape)
    stack, seed = np.indices(shape[1:])
    # The first two seeds are complete, so that all pairs share them.
    values[:, (seed >= 2) & ((3 * stack + 5 * seed) % 4 == 0)] = np.nan
    return values


def separated_but_two(rng: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    """Normal scores of two equal stacks, the first of which is unstable, and of others that are far from all."""
    return normal(1, rng, shape) + 1000 * pair_and_others(shape[1])[:, None]


def pair_and_others(stacks: int) -> Array:
    """Return the group of each stack; the first two are one group, and every other stack is one."""
    return np.maximum(np.arange(stacks) - 1, 0)


def skewed(rng: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    """Scores with a long tail downward, as of runs of which some fail."""
    return -rng.exponential(size=shape)


def accuracies(rates: tuple[float, ...], rng: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    """Binomial accuracies near 1; the stacks are divided among the rates."""
    rate = np.array(rates)[divide(len(rates), shape[1])]
    return rng.binomial(NUM_TEST, rate[:, None], shape) / NUM_TEST


def divide(groups: int, stacks: int) -> Array:
    """Return the group of each stack; groups are neighbors of about the same size."""
    return np.arange(stacks) * groups // stacks


CASES = (
    *(Case(f"normal, {count} unstable", functools.partial(normal, count)) for count in (0, 1, 2)),
    *(Case(f"ragged, {count} unstable", functools.partial(ragged, count)) for count in (0, 1, 2)),
    Case("skewed", skewed),
    *(
        Case(f"accuracies of {rate}", functools.partial(accuracies, (rate,)), 1 / NUM_TEST)
        for rate in (0.97, 0.99, 0.999)
    ),
    Case(
        "accuracies of .97 and .999",
        functools.partial(accuracies, (0.97, 0.999)),
        1 / NUM_TEST,
        functools.partial(divide, 2),
    ),
    Case("one equal pair, 1 unstable", separated_but_two, groups=pair_and_others),
)


def separated(values: Array, test: Test, resolution: float = 0.0) -> tuple[Array, Array]:
    """Return the (tables, pairs) decisions of a ranking test, and the (pairs, 2) stacks of the pairs."""
    model = fit_table(values, test, resolution)
    return adjusted_p_values(model, test, ALPHA) < ALPHA, model.pairs


def family_wise_error(case: Case, test: Test, stacks: int, seeds: int, tables: int, seed: int = 0) -> float:
    """Return the fraction of tables in which any two equal stacks are separated."""
    values = case.draw(np.random.default_rng([seed, stacks, seeds]), (tables, stacks, seeds))
    decisions, pairs = separated(values, test, case.resolution)
    group = case.groups(stacks)
    equal = group[pairs[:, 0]] == group[pairs[:, 1]]
    return float(decisions[:, equal].any(1).mean())


def power(test: Test, difference: float, stacks: int, seeds: int, tables: int, seed: int = 0) -> float:
    """Return the probability to separate a stack that is better than the others, which are equal, all with the same spread."""
    values = normal(0, np.random.default_rng([seed, stacks, seeds]), (tables, stacks, seeds))
    values[:, 0] += difference
    decisions, pairs = separated(values, test)
    return float(decisions[:, pairs[:, 0] == 0].mean())


def relative_power(test: Test, stacks: int, seeds: int, tables: int, reference: float = 0.8) -> float:
    """Return the power as a share of that of `anova`, at the difference that `anova` detects with the reference power."""
    low, high = 0.1, 50.0
    for _ in range(12):
        middle = (low + high) / 2
        is_detected = power("anova", middle, stacks, seeds, min(tables, 1000)) > reference
        low, high = (low, middle) if is_detected else (middle, high)
    return power(test, high, stacks, seeds, tables) / power("anova", high, stacks, seeds, tables)
