"""Simulated suites with known truth: how often intervals of a verdict cover it, and how often its probabilities are right."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from noisybench.leaderboard.mixed_model import LabelSetScores, Scope, compare_stacks


@dataclass(frozen=True)
class Scenario:
    """Sizes and standard deviations of a simulated suite, in accuracy.

    Attributes:
        settings: number of settings.
        draws: draws of the noise per setting.
        seeds: seeds per draw.
        stacks: number of stacks.
        scope: what the verdict generalizes to.
        spread: deviation of the true scores between stacks; 0 if all stacks are equal.
        by_setting: deviation of the interaction of stack and setting.
        by_draw: deviation of the interaction of stack and draw.
        error: deviation of the error of a run.
        unstable: factor of the error and the draw effects of the first stack.
        unequal_settings: errors and draw effects grow by this factor from the first setting to the last.
        missing: fraction of runs that are missing.
    """

    settings: int = 3
    draws: int = 1
    seeds: int = 3
    stacks: int = 6
    scope: Scope = "label_sets"
    spread: float = 0.01
    by_setting: float = 0.01
    by_draw: float = 0.0
    error: float = 0.01
    unstable: float = 1.0
    unequal_settings: float = 1.0
    missing: float = 0.0


@dataclass
class Outcome:
    """Counts over simulated suites.

    Attributes:
        covered: whether each pair's interval contains the truth, (suites, pairs); the first stack is in the first pairs.
        leader_covered: whether the intervals of the leader against the others contain the truth.
        claims: whether the leader was claimed to be best.
        probabilities: probability of being best of the leader.
        right: whether the leader is the best.
    """

    covered: list[NDArray[np.bool_]] = field(default_factory=list)
    leader_covered: list[float] = field(default_factory=list)
    claims: list[bool] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)

    @property
    def coverage(self) -> float:
        """Coverage over all pairs."""
        return float(np.mean(self.covered))

    def coverage_of(self, first: bool) -> float:
        """Coverage over the pairs with, or without, the first stack."""
        pairs = len(self.covered[0])
        count = round((1 + np.sqrt(1 + 8 * pairs)) / 2) - 1
        part = slice(0, count) if first else slice(count, None)
        return float(np.mean([each[part] for each in self.covered]))

    @property
    def false_claims(self) -> float:
        """Fraction of suites in which a stack that is not the only best one was claimed to be best."""
        return float(np.mean([claim and not right for claim, right in zip(self.claims, self.right, strict=True)]))

    def reliability(self, low: float, high: float) -> tuple[int, float, float]:
        """Return number, mean probability and fraction right of the leaders with a probability in [low, high)."""
        pairs = [(p, r) for p, r in zip(self.probabilities, self.right, strict=True) if low <= p < high]
        if not pairs:
            return 0, float("nan"), float("nan")
        return len(pairs), float(np.mean([p for p, _ in pairs])), float(np.mean([r for _, r in pairs]))


def simulate(scenario: Scenario, suites: int, seed: int = 0, probabilities: bool = True) -> Outcome:
    """Simulate suites, and compare their stacks."""
    rng, outcome = np.random.default_rng(seed), Outcome()
    stacks, names = scenario.stacks, [f"stack {index}" for index in range(scenario.stacks)]
    factor = np.ones(stacks)
    factor[0] = scenario.unstable
    first, second = np.triu_indices(stacks, 1)
    for _ in range(suites):
        level = 0.9 + scenario.spread * rng.normal(size=stacks)
        truth, label_sets = np.zeros(stacks), []
        for setting in range(scenario.settings):
            grows = scenario.unequal_settings ** (setting / max(scenario.settings - 1, 1))
            in_setting = level + scenario.by_setting * rng.normal(size=stacks)
            truth += (level if scenario.scope == "settings" else in_setting) / scenario.settings
            for _ in range(scenario.draws):
                draw_effect = grows * factor * scenario.by_draw * rng.normal(size=stacks)
                if scenario.scope == "label_sets":
                    truth += draw_effect / scenario.draws / scenario.settings
                blocks = 0.02 * rng.normal(size=(scenario.seeds, 1))
                errors = grows * factor * scenario.error * rng.normal(size=(scenario.seeds, stacks))
                table = in_setting + draw_effect + blocks + errors
                missing = rng.random(table.shape) < scenario.missing
                scores = {
                    name: {s: float(table[s, i]) for s in range(scenario.seeds) if not missing[s, i]}
                    for i, name in enumerate(names)
                }
                label_sets.append(LabelSetScores(f"setting {setting}", scores))
        comparison = compare_stacks(label_sets, names, scenario.scope)
        # Suites whose missing runs leave a pair without any comparison are not counted.
        if not comparison.is_tested().all() or np.isnan(comparison.difference).any():
            continue
        low, high = comparison.intervals()
        true_difference = truth[:, None] - truth
        covered = (low <= true_difference) & (true_difference <= high)
        outcome.covered.append(covered[first, second])
        leader = int(comparison.difference.mean(1).argmax())
        others = np.arange(stacks) != leader
        outcome.leader_covered.append(float(covered[leader, others].mean()))
        outcome.claims.append(bool((low[leader, others] > 0).all()))
        # With equal stacks no one is best.
        outcome.right.append(bool(truth[leader] > truth[others].max() + 1e-9))
        if probabilities:
            outcome.probabilities.append(float(comparison.probability_best()[leader]))
    return outcome
