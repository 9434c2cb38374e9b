"""Stress cards: how the score of each stack falls as the noise rate of one noise model rises.

A card is computed from the settings of a store that share dataset, task, budget and code, and whose noise models differ in their
rate alone; clean labels are rate 0 of every noise model. Rates are measured fractions of mislabeled training examples. Between
measured rates scores are interpolated linearly, which says too little of a score that falls ever faster.

The *breakdown point* compares a stack at rate r with cross-entropy at r / 2: as long as the stack is not below, using it is worth
as much as correcting half of the incorrect labels. It is the last rate at which this holds, not the first at which it fails: near
rate 0 both curves meet, so that any cost on clean data, however small, would put the first failure of every stack at 0.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from noisybench.leaderboard.breakdown import Breakdown, find_breakdown, score_matrix, shared_seeds
from noisybench.leaderboard.mixed_model import LabelSetScores, compare_stacks
from noisybench.leaderboard.setting_description import without_parameters
from noisybench.leaderboard.setting_scores import setting_scores
from noisybench.leaderboard.statistics import Summary, summarize
from noisybench.leaderboard.table import Setting
from noisybench.leaderboard.verdict import BASELINE

RATE_PARAMETERS = ("rate", "seed", "labels")
"""Parameters of noise models in which the settings of one card may differ."""
UNRELATED_NOISE = ("from_file", "from_folder", "real_world")
"""Noise models whose label sets need not have anything in common but their name."""

Scores = Mapping[str, Mapping[int, float]]
"""Score by stack and seed."""


@dataclass(frozen=True)
class StressPoint:
    """One setting as a point of stress cards.

    Attributes:
        group: what the settings of a card share besides the noise model.
        title: the same in a few words.
        dataset: dataset with its parameters.
        budget: hash of task and budget.
        noise: noise model without rate and seed; empty for clean labels.
        variant: noise model with its rate; settings of the same variant are draws of one noise.
        rate: fraction of mislabeled training examples.
        resolution: step of the scores.
        scores: score by ranking rule, stack and seed.
        worst_class: lowest recall of a class by stack and seed.
        codes: digest of the code by stack, without dataset and noise model.
        privileged: stacks that use privileged information.
    """

    group: str
    title: str
    dataset: str
    budget: str
    noise: str
    variant: str
    rate: float
    resolution: float
    scores: Mapping[str, Scores]
    worst_class: Scores
    codes: Mapping[str, str]
    privileged: frozenset[str]


@dataclass(frozen=True)
class Cost:
    """Score of cross-entropy minus that of a stack on clean data, with its 95 % interval; None without a test."""

    difference: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class StressCard:
    """Stress card of one stack under one noise model. Scores are in [0, 1]; None where nothing was measured.

    Attributes:
        stack: stack of mitigations.
        is_privileged: whether it uses privileged information.
        curve: score at each rate of the table.
        area: area under the curve divided by the range of rates, which is the mean score over the range.
        breakdown: breakdown point; None for cross-entropy, and without cross-entropy at half of a measured rate.
        clean_cost: what the stack costs on clean data; None for cross-entropy, and without clean labels.
        worst_class: lowest recall of a class at each rate.
        seeds: number of seeds that all its rates share.
    """

    stack: str
    is_privileged: bool
    curve: tuple[Summary | None, ...]
    area: Summary | None
    breakdown: Breakdown | None
    clean_cost: Cost | None
    worst_class: tuple[Summary | None, ...]
    seeds: int


@dataclass(frozen=True)
class StressTable:
    """Cards of all stacks under one noise model, by area.

    Attributes:
        title: dataset, task, budget and noise model.
        dataset: dataset with its parameters.
        budget: hash of task and budget.
        noise: noise model without its rate.
        rule: selection rule of the scores.
        rates: measured noise rates in rising order.
        cards: one card for each stack.
        left_out: stacks that have no card, with the reason.
    """

    title: str
    dataset: str
    budget: str
    noise: str
    rule: str
    rates: tuple[float, ...]
    cards: tuple[StressCard, ...]
    left_out: tuple[str, ...]


def stress_point(setting: Setting) -> StressPoint | None:
    """Return a setting as a point of stress cards; None if its noise rate is unknown or belongs to no series.

    Example:
        >>> from noisybench.leaderboard.measurement_tables import builtin_measurements
        >>> from noisybench.leaderboard.table import build_settings
        >>> points = map(stress_point, build_settings(builtin_measurements()))
        >>> sorted({point.noise for point in points if point and "mlp:256-128" in point.title})
        ['symmetric_exclusive']
    """
    description = setting.description
    name = description.noise.partition("(")[0]
    rate = 0.0 if name == "clean" else description.actual_noise_rate
    if rate is None or name in UNRELATED_NOISE:
        return None
    scores = setting_scores(setting)
    worst_class = {
        row.stack: {
            each.seed: each.worst_class_recall for each in row.measurements if each.worst_class_recall is not None
        }
        for row in setting.rows
    }
    return StressPoint(
        group=json.dumps([description.metric, description.dataset, description.task, description.budget]),
        title=" · ".join(part for part in (description.dataset, description.task, description.budget_text) if part),
        dataset=description.dataset,
        budget=description.budget,
        noise="" if name == "clean" else without_parameters(description.noise, RATE_PARAMETERS),
        variant=without_parameters(description.noise, ["seed"]),
        rate=rate,
        resolution=scores.resolution,
        scores=scores.scores,
        worst_class=worst_class,
        codes=scores.codes,
        privileged=scores.privileged,
    )


def stress_tables(points: Iterable[StressPoint], rule: str) -> list[StressTable]:
    """Return one table of stress cards for each noise model with at least two different rates, clean labels included.

    Those with more rates come first.

    Args:
        points: settings.
        rule: selection rule, one of `verdict.RANKING_RULES`.

    Example:
        >>> from noisybench.leaderboard.measurement_tables import builtin_measurements
        >>> from noisybench.leaderboard.table import build_settings
        >>> points = [point for each in build_settings(builtin_measurements()) if (point := stress_point(each))]
        >>> [(table.noise, len(table.rates)) for table in stress_tables(points, "last") if "mlp" in table.title][0]
        ('symmetric_exclusive', 2)
    """
    groups: dict[str, list[StressPoint]] = {}
    for point in points:
        groups.setdefault(point.group, []).append(point)
    tables = []
    for group in groups.values():
        clean = [point for point in group if not point.noise]
        for noise in sorted({point.noise for point in group if point.noise}):
            table = _table([*clean, *(point for point in group if point.noise == noise)], noise, rule)
            if table is not None:
                tables.append(table)
    return sorted(tables, key=lambda table: (-len(table.rates), table.title))


def _table(points: Sequence[StressPoint], noise: str, rule: str) -> StressTable | None:
    variants: dict[str, list[StressPoint]] = {}
    for point in points:
        variants.setdefault(point.variant, []).append(point)
    # Draws of one noise have slightly different rates.
    series = sorted(variants.values(), key=_mean_rate)
    rates = tuple(map(_mean_rate, series))
    if len(set(rates)) < 2:
        return None
    codes: dict[str, set[str]] = {}
    for point in points:
        for stack in point.scores[rule]:
            codes.setdefault(stack, set()).add(point.codes[stack])
    left_out = [f"{stack}: its code differs between rates" for stack in sorted(codes) if len(codes[stack]) > 1]
    stacks = [stack for stack in sorted(codes) if len(codes[stack]) == 1]
    privileged = frozenset().union(*(point.privileged for point in points))
    tables = {
        stack: [_over_draws([each.scores[rule] for each in draws], stack) for draws in series] for stack in stacks
    }
    costs = _clean_costs([point for point in points if not point.noise], stacks, rule)
    cards = []
    for stack, values in tables.items():
        if sum(map(bool, values)) < 2:
            left_out.append(f"{stack}: has runs at one rate only")
            continue
        recalls = [_over_draws([each.worst_class for each in draws], stack) for draws in series]
        cards.append(
            StressCard(
                stack=stack,
                is_privileged=stack in privileged,
                curve=tuple(summarize(list(each.values()), is_fraction=True) for each in values),
                area=area_summary(rates, values),
                breakdown=find_breakdown(rates, values, tables.get(BASELINE, []), points[0].resolution)
                if stack != BASELINE
                else None,
                clean_cost=costs.get(stack),
                worst_class=tuple(summarize(list(each.values()), is_fraction=True) for each in recalls),
                seeds=len(shared_seeds(values)),
            )
        )
    if not cards:
        return None
    cards.sort(key=lambda card: (card.area is None, -card.area.mean if card.area else 0.0, card.stack))
    first = points[0]
    title = f"{first.title} · {noise}"
    return StressTable(title, first.dataset, first.budget, noise, rule, rates, tuple(cards), tuple(left_out))


def _mean_rate(draws: Sequence[StressPoint]) -> float:
    return math.fsum(point.rate for point in draws) / len(draws)


def _over_draws(scores: Sequence[Scores], stack: str) -> dict[int, float]:
    """Return the mean over draws of the noise by seed, for the seeds that all draws have."""
    of_draws = [draw.get(stack, {}) for draw in scores]
    seeds = set.intersection(*(set(each) for each in of_draws))
    return {seed: math.fsum(each[seed] for each in of_draws) / len(of_draws) for seed in sorted(seeds)}


def area_summary(rates: Sequence[float], values: Sequence[Mapping[int, float]]) -> Summary | None:
    """Return the mean score over the range of rates; None without a seed that has a score at every rate.

    Args:
        rates: measured rates in rising order.
        values: score by seed at each rate.

    Example:
        >>> round(area_summary([0.0, 0.2, 0.4], [{0: 0.9}, {0: 0.8}, {0: 0.5}]).mean, 2)
        0.75
    """
    seeds = shared_seeds(values)
    if not seeds:
        return None
    # One area for each seed: its runs at different rates share what the seed decides.
    areas = np.asarray(np.trapezoid(score_matrix(values, seeds), rates, axis=1)) / (rates[-1] - rates[0])
    return summarize([float(area) for area in areas], is_fraction=True)


def _clean_costs(clean: Sequence[StressPoint], stacks: Sequence[str], rule: str) -> dict[str, Cost]:
    """Return the difference of cross-entropy to each stack on clean labels, over all settings that have both."""
    costs = dict[str, Cost]()
    for stack in stacks:
        shared = [
            LabelSetScores("", {name: point.scores[rule][name] for name in (BASELINE, stack)}, point.resolution, False)
            for point in clean
            if point.scores[rule].get(BASELINE, {}).keys() & point.scores[rule].get(stack, {}).keys()
        ]
        if stack == BASELINE or not shared:
            continue
        comparison = compare_stacks(shared, (BASELINE, stack), "label_sets")
        low, high = (float(ends[0, 1]) if comparison.is_tested()[0, 1] else None for ends in comparison.intervals())
        costs[stack] = Cost(float(comparison.difference[0, 1]), low, high)
    return costs
