"""A bound on the power of every test that keeps its family-wise error rate if one or two stacks are unstable.

    python -m tests.leaderboard.power_bound

There are two designs. In `Design` some disjoint pairs of stacks are close, and all other stacks are far away from them and from
each other; in the alternative one of the pairs differs. In `EqualStacks` all stacks are equal; in the alternative one of them
is better. The alternative has equal spreads. In the null hypotheses nothing differs, and none, one or two stacks have four
times the spread of the others. For any weights of the null hypotheses, a test whose error is at most `LEVEL` under each of them
has a power of at most

    LEVEL * sum(weights) + E[max(0, 1 - sum(weights * ratios))],

where the ratios are those of the densities of the null hypotheses to that of the alternative, and the expectation is that under
the alternative (Neyman and Pearson, for their mixture). The weights are chosen to make the bound small. The means of stacks and
seeds and the scale are unknown, so by the theorem of Hunt and Stein only invariant tests need to be considered: functions, up to
their scale, of the differences within pairs and of the deviations of the additive model, or of all differences between stacks.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from noisybench.leaderboard.multiplicity import holm
from tests.leaderboard.simulated_ranks import ALPHA, separated

Array = np.ndarray
LEVEL = 0.06
"""Largest family-wise error."""
POOLED_POWER = 0.8
UNSTABLE_RATIO = 4.0
"""Standard deviation of an unstable stack over that of the others."""


@dataclass(frozen=True)
class Design:
    """Size of the tables.

    Attributes:
        stacks: number of stacks.
        seeds: number of seeds.
        pairs: number of close pairs; the first is that of the first two stacks.
    """

    stacks: int
    seeds: int
    pairs: int

    @property
    def df(self) -> int:
        """Degrees of freedom of the pooled variance."""
        return (self.stacks - 1) * (self.seeds - 1)

    def draw(self, difference: float, tables: int, seed: int) -> tuple[Array, ...]:
        """Return (tables, pairs) differences and (tables, stacks, seeds - 1) deviations under the alternative.

        The mean over seeds of a stack is multiplied by the root of their number, so that it has the variance of one run.
        """
        rng = np.random.default_rng([seed, self.stacks, self.seeds, self.pairs])
        differences = np.sqrt(2) * rng.normal(size=(tables, self.pairs))
        differences[:, 0] += difference
        return differences, rng.normal(size=(tables, self.stacks, self.seeds - 1))

    def null_hypotheses(self) -> list[Array]:
        """Return the null hypotheses as (members, stacks) spreads; the members of one differ by exchanging stacks."""
        found: dict[tuple[int, ...], list[Array]] = {}
        for count in range(3):
            for unstable in itertools.combinations(range(self.stacks), count):
                spreads = np.ones(self.stacks)
                spreads[list(unstable)] = UNSTABLE_RATIO
                in_pairs = [stack // 2 for stack in unstable if stack < 2 * self.pairs]
                found.setdefault((count, len(in_pairs), len(set(in_pairs))), []).append(spreads)
        return [np.array(members) for members in found.values()]

    def squares(self, differences: Array, deviations: Array, spreads: Array) -> tuple[Array, float]:
        """Return the (tables,) sums of squares in units of the spreads, and the logarithm of the scale of the density."""
        precision = spreads**-2
        centered = deviations - np.einsum("k,tks->ts", precision / precision.sum(), deviations)[:, None]
        variances = (spreads**2)[: 2 * self.pairs].reshape(-1, 2).sum(1)
        squares = np.einsum("k,tks->t", precision, centered**2) + (differences**2 / variances).sum(1)
        log_scale = np.log(variances).sum() + (self.seeds - 1) * (2 * np.log(spreads).sum() + np.log(precision.sum()))
        return squares, -log_scale / 2

    def likelihood_ratios(self, difference: float, differences: Array, deviations: Array) -> Array:
        """Return the (null hypotheses, tables) ratios of their densities to that of the alternative, up to the scale."""
        size = self.pairs + self.df
        equal, equal_scale = self.squares(differences, deviations, np.ones(self.stacks))
        # The mean of the hyperbolic cosine over a chi distribution: the sign of the difference is unknown.
        argument = (differences * difference / 2) ** 2 / (2 * equal[:, None])
        alternative = np.exp(-(difference**2) / 4) * special.hyp1f1(size / 2, 0.5, argument).mean(1)
        ratios = []
        for members in self.null_hypotheses():
            densities = []
            for spreads in members:
                squares, scale = self.squares(differences, deviations, spreads)
                densities.append(np.exp(scale - equal_scale - size / 2 * np.log(squares / equal)))
            ratios.append(np.mean(densities, 0) / alternative)
        return np.array(ratios)

    def pooled_power(self, difference: float, tables: int, seed: int) -> float:
        """Return the power of Holm's method with the pooled variance, which separates all distant stacks first."""
        differences, deviations = self.draw(difference, tables, seed)
        variances = (deviations - deviations.mean(1, keepdims=True)).var((1, 2)) * deviations[0].size / self.df
        p_values = 2 * special.stdtr(self.df, -np.abs(differences) / np.sqrt(2 * variances)[:, None])
        return float((holm(p_values)[:, 0] < ALPHA).mean())


@dataclass(frozen=True)
class EqualStacks:
    """Tables in which all stacks are equal, or one is better.

    A test may use that all other stacks are equal, and need not tell which pairs differ, so the bound is generous.

    Attributes:
        stacks: number of stacks.
        seeds: number of seeds.
    """

    stacks: int
    seeds: int

    def draw(self, difference: float, tables: int, seed: int) -> tuple[Array, ...]:
        """Return (tables, stacks, seeds) values under the alternative."""
        values = np.random.default_rng([seed, self.stacks, self.seeds]).normal(size=(tables, self.stacks, self.seeds))
        values[:, 0] += difference
        return (values,)

    def likelihood_ratios(self, difference: float, values: Array) -> Array:
        """Return the (null hypotheses, tables) ratios of their densities to that of the alternative."""
        size = self.seeds * (self.stacks - 1)
        centered = values - values.mean(1, keepdims=True)
        equal = (centered**2).sum((1, 2))
        # The mean over the stacks that may be the better one, and over the sign of the difference, see `Design`.
        argument = (difference * centered.sum(2)) ** 2 / (2 * equal[:, None])
        noncentrality = difference**2 * self.seeds * (1 - 1 / self.stacks)
        alternative = np.exp(-noncentrality / 2) * special.hyp1f1(size / 2, 0.5, argument).mean(1)
        ratios = []
        for count in range(3):
            densities = []
            for unstable in itertools.combinations(range(self.stacks), count):
                precision = np.ones(self.stacks)
                precision[list(unstable)] = UNSTABLE_RATIO**-2
                means = np.einsum("k,tks->ts", precision / precision.sum(), values)
                squares = np.einsum("k,tks->t", precision, (values - means[:, None]) ** 2)
                log_scale = self.seeds / 2 * (np.log(precision).sum() - np.log(precision.mean()))
                densities.append(np.exp(log_scale - size / 2 * np.log(squares / equal)))
            ratios.append(np.mean(densities, 0) / alternative)
        return np.array(ratios)

    def pooled_power(self, difference: float, tables: int, seed: int) -> float:
        """Return the power of Holm's method with the pooled variance to separate the better stack from each other one."""
        (values,) = self.draw(difference, tables, seed)
        decisions, pairs = separated(values, "anova")
        return float(decisions[:, pairs[:, 0] == 0].mean())


def power_bound(design: Design | EqualStacks, tables: int, seed: int = 0) -> tuple[float, float]:
    """Return the bound on the power and its standard error, at the difference that the pooled test finds with `POOLED_POWER`."""
    difference = float(
        optimize.brentq(lambda value: design.pooled_power(value, tables, seed) - POOLED_POWER, 1, 40, xtol=0.01)
    )

    def terms(ratios: Array, weights: Array) -> Array:
        return np.asarray(LEVEL * weights.sum() + np.maximum(0, 1 - weights @ ratios))

    chosen_on = design.likelihood_ratios(difference, *design.draw(difference, tables, seed + 1))

    def objective(logarithms: Array) -> tuple[float, Array]:
        weights = np.exp(logarithms)
        is_positive = weights @ chosen_on < 1
        gradient = weights * (LEVEL - (chosen_on * is_positive).mean(1))
        return float(terms(chosen_on, weights).mean()), gradient

    start = np.full(len(chosen_on), -1.0)
    fit = optimize.minimize(objective, start, jac=True, method="L-BFGS-B", bounds=[(-14, 12)] * len(start))
    # Fresh tables: on those that the weights were chosen for, the bound is too low.
    found = terms(design.likelihood_ratios(difference, *design.draw(difference, tables, seed + 2)), np.exp(fit.x))
    return float(found.mean()), float(found.std() / np.sqrt(tables))


def main() -> None:
    """Print the bound for tables of several sizes, as a share of the power of the pooled test."""
    print("stacks  seeds  close pairs  bound / power of the pooled test")
    for stacks, seeds in itertools.product((3, 5, 10), (3, 4, 5)):
        designs: dict[str, Design | EqualStacks] = {}
        for count in sorted({1, stacks // 2}):
            designs[str(count)] = Design(stacks, seeds, count)
        designs["all"] = EqualStacks(stacks, seeds)
        for pairs, design in designs.items():
            bound, error = power_bound(design, 10_000)
            print(
                f"{stacks:6} {seeds:6} {pairs:>12}  {bound / POOLED_POWER:.3f} ± {error / POOLED_POWER:.3f}", flush=True
            )


if __name__ == "__main__":
    main()
