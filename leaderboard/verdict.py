"""Verdicts on suites: the best stack over settings, draws of the noise and seeds, in words and numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from noisybench.leaderboard.mixed_model import LabelSetScores, Scope, compare_stacks
from noisybench.leaderboard.setting_description import without_parameters
from noisybench.leaderboard.setting_scores import RANKING_RULES, SettingScores

BASELINE = "cross_entropy"
"""Stack that a verdict compares the leader with, if it was measured."""
MIN_DRAW_DF = 3
"""Fewest degrees of freedom between draws for a verdict over draws; with one, an interval is 13 standard errors wide."""
MIN_SIMILAR_SETTINGS = 5
"""Fewest settings for a verdict on settings like these."""
MAX_NAMED = 3
"""Most stacks of one kind that a sentence names."""


@dataclass(frozen=True)
class Margin:
    """The leader against one other stack.

    Attributes:
        stack: the other stack.
        difference: score of the leader minus that of the stack.
        low: lower end of the 95 % interval, which holds for this pair alone.
        high: upper end of the interval.
        probability: probability of the stack of being best; None with privileged information.
        privileged: whether the stack uses privileged information.
    """

    stack: str
    difference: float
    low: float
    high: float
    probability: float | None
    privileged: bool


@dataclass(frozen=True)
class Finding:
    """The best stack within one scope.

    Attributes:
        scope: what varies, see `mixed_model`.
        leader: stack without privileged information that has the highest mean score.
        is_best: whether its intervals against all other stacks without privileged information exclude 0.
        probability: its probability of being the best of them.
        margins: the other stacks, by mean score.
    """

    scope: Scope
    leader: str
    is_best: bool
    probability: float
    margins: tuple[Margin, ...]

    @property
    def num_stacks(self) -> int:
        """Number of stacks without privileged information."""
        return 1 + sum(not margin.privileged for margin in self.margins)


@dataclass(frozen=True)
class Verdict:
    """Verdict over the settings of one group.

    Attributes:
        title: datasets, task and budget.
        rule: selection rule.
        settings: keys of its label sets on the page.
        num_settings: number of settings.
        draws: fewest and most draws of the noise per setting whose labels depend on its seed.
        seeds: fewest and most seeds of a stack per draw.
        finding: finding on these settings.
        similar: finding on settings like these; None with fewer than `MIN_SIMILAR_SETTINGS` settings.
        left_out: settings and stacks that take no part, with the reason.
    """

    title: str
    rule: str
    settings: tuple[str, ...]
    num_settings: int
    draws: tuple[int, int]
    seeds: tuple[int, int]
    finding: Finding
    similar: Finding | None
    left_out: tuple[str, ...]


def reach_verdicts(label_sets: Iterable[SettingScores], rule: str) -> list[Verdict]:
    """Return the verdicts of each group of settings that share metric, task, budget, code and most of their stacks.

    There is one for the largest complete table of settings and stacks, and others for settings that it leaves out, if these are
    several: for the stacks that they have, in all settings of the group.

    Args:
        label_sets: scores by setting and draw of the noise.
        rule: selection rule; none of `RANKING_RULES` gives no verdict.

    Example:
        >>> from noisybench.leaderboard.measurement_tables import builtin_measurements
        >>> from noisybench.leaderboard.setting_scores import setting_scores
        >>> from noisybench.leaderboard.table import build_settings
        >>> settings = [each for each in build_settings(builtin_measurements()) if "mlp:512-512" in each.description.network]
        >>> verdict, = reach_verdicts(map(setting_scores, settings), "last")
        >>> verdict.num_settings, verdict.draws, verdict.seeds
        (3, (1, 1), (3, 3))
    """
    if rule not in RANKING_RULES:
        return []
    groups: dict[str, list[SettingScores]] = {}
    for label_set in label_sets:
        if label_set.scores[rule]:
            groups.setdefault(label_set.group, []).append(label_set)
    parts = [part for group in groups.values() for part in _related(group, rule)]
    verdicts = [verdict for part in parts if len(part) > 1 for verdict in _verdicts(part, rule)]
    return sorted(verdicts, key=lambda verdict: (verdict.title, verdict.settings))


def reach_overall_verdicts(label_sets: Iterable[SettingScores], rule: str) -> list[Verdict]:
    """Return the verdicts over settings of several tasks and budgets that share metric, engine and most of their stacks."""
    given = list(label_sets)
    group_of = {each.key: each.group for each in given}
    joined = [replace(each, group=each.engine, group_title="all budgets", codes=each.method_codes) for each in given]
    # Without a second group, the verdict would be that of the group.
    groups: dict[str, set[str]] = {}
    for each in given:
        groups.setdefault(each.engine, set()).add(each.group)
    verdicts = reach_verdicts([each for each in joined if len(groups[each.engine]) > 1], rule)
    return [verdict for verdict in verdicts if len({group_of[key] for key in verdict.settings}) > 1]


def find_in_setting(label_set: SettingScores, rule: str) -> Finding | None:
    """Return the finding of a single setting; None without two stacks that share two seeds."""
    if len(label_set.scores[rule]) < 2:
        return None
    data = [LabelSetScores(label_set.setting, label_set.scores[rule], label_set.resolution, label_set.is_drawn)]
    return _finding(data, sorted(label_set.scores[rule]), label_set.privileged, "label_sets")[0]


def _related(group: Sequence[SettingScores], rule: str) -> list[list[SettingScores]]:
    """Return the parts of a group that are connected by label sets which share at least half of their stacks."""
    parts: list[list[SettingScores]] = []
    for label_set in group:
        stacks = set(label_set.scores[rule])

        def is_related(part: list[SettingScores], stacks: set[str] = stacks) -> bool:
            others = [set(member.scores[rule]) for member in part]
            return any(2 * len(stacks & other) >= min(len(stacks), len(other)) for other in others)

        joined = [part for part in parts if is_related(part)]
        parts = [part for part in parts if part not in joined] + [[*itertools.chain(*joined), label_set]]
    return parts


def _verdicts(part: Sequence[SettingScores], rule: str) -> list[Verdict]:
    """Return the verdicts of label sets that are connected by their stacks, the largest table first."""
    reached: list[Verdict] = []
    left, restricted = list(part), list(part)
    while len(left) > 1 and (found := _verdict(restricted, rule, {each.setting for each in left})) is not None:
        verdict, settings = found
        reached.append(verdict)
        left = [each for each in left if each.setting not in settings]
        stacks = {stack for each in left for stack in each.scores[rule]}
        restricted = [
            replace(
                each, scores={rule: {stack: seeds for stack, seeds in each.scores[rule].items() if stack in stacks}}
            )
            for each in part
        ]
    if len(reached) < 2:
        return reached
    return [replace(each, title=f"{each.title}, {each.finding.num_stacks} stacks") for each in reached]


def _verdict(label_sets: Sequence[SettingScores], rule: str, wanted: set[str]) -> tuple[Verdict, list[str]] | None:
    """Return the verdict of the largest complete table with a wanted setting, and its settings; None without two label sets."""
    codes: dict[str, set[str]] = {}
    stacks_of: dict[str, set[str]] = {}
    for label_set in label_sets:
        stacks_of.setdefault(label_set.setting, set()).update(label_set.scores[rule])
        for stack in label_set.scores[rule]:
            codes.setdefault(stack, set()).add(label_set.codes[stack])
    privileged = frozenset().union(*(label_set.privileged for label_set in label_sets))
    left_out = [f"{stack}: its code differs between settings" for stack in sorted(codes) if len(codes[stack]) > 1]
    stacks = sorted(stack for stack in codes if len(codes[stack]) == 1)
    open_stacks = [stack for stack in stacks if stack not in privileged]
    settings = _complete_settings(stacks_of, open_stacks, wanted)
    titles = {each.setting: without_parameters(each.title, ["seed"]) for each in reversed(label_sets)}
    for setting, present in stacks_of.items():
        if setting not in settings:
            left_out.append(f"{titles[setting]}: has {len(present & {*stacks})} of {len(stacks)} stacks")
    kept = [label_set for label_set in label_sets if label_set.setting in settings]
    if len(kept) < 2:
        return None
    for stack in stacks:
        lacking = [titles[setting] for setting in settings if stack not in stacks_of[setting]]
        if lacking:
            left_out.append(f"{stack}: has no runs in {'; '.join(lacking)}")
    stacks = [stack for stack in stacks if all(stack in stacks_of[setting] for setting in settings)]
    drawn = [[each for each in kept if each.setting == setting and each.is_drawn] for setting in settings]
    draws = [len(each) for each in drawn if each] or [1]
    over_draws = min(draws) > 1 and sum(draws) - len(draws) >= MIN_DRAW_DF
    data = [LabelSetScores(each.setting, each.scores[rule], each.resolution, each.is_drawn) for each in kept]
    finding, untested = _finding(data, stacks, privileged, "draws" if over_draws else "label_sets")
    if finding is None:
        return None
    similar = None
    if len(settings) >= MIN_SIMILAR_SETTINGS:
        tested = [stack for stack in stacks if stack not in untested]
        similar, _ = _finding(data, tested, privileged, "settings")
    left_out += [f"{stack}: shares too few seeds with the others" for stack in untested]
    compared = [finding.leader, *(margin.stack for margin in finding.margins)]
    seeds = [len(each.scores[stack]) for each in data for stack in compared if stack in each.scores]
    datasets = ", ".join(sorted({label_set.dataset for label_set in kept}))
    verdict = Verdict(
        title=f"{datasets} · {kept[0].group_title}",
        rule=rule,
        settings=tuple(label_set.key for label_set in kept),
        num_settings=len(settings),
        draws=(min(draws), max(draws)),
        seeds=(min(seeds), max(seeds)),
        finding=finding,
        similar=similar,
        left_out=tuple(left_out),
    )
    return verdict, settings


def _complete_settings(stacks_of: Mapping[str, set[str]], stacks: Sequence[str], wanted: set[str]) -> list[str]:
    """Return the settings of the largest complete table of settings and stacks that has a wanted setting.

    Neither a new stack without runs in some settings nor a new setting without runs of some stacks then removes the others.
    """
    of_stack = {stack: frozenset(key for key, present in stacks_of.items() if stack in present) for stack in stacks}
    pairs = itertools.combinations(of_stack.values(), 2)
    candidates = {*of_stack.values(), *(first & second for first, second in pairs)}

    def size(candidate: frozenset[str]) -> tuple[int, int, list[str]]:
        complete = sum(candidate <= present for present in of_stack.values())
        # A single stack has nothing to be compared with.
        return (len(candidate) * complete if complete > 1 else 0, len(candidate), sorted(candidate))

    largest = max((each for each in candidates if each & wanted), key=size, default=frozenset())
    return [key for key in stacks_of if key in largest]


def _finding(
    data: Sequence[LabelSetScores], stacks: Sequence[str], privileged: frozenset[str], scope: Scope
) -> tuple[Finding | None, list[str]]:
    """Return the finding of a scope, None without two stacks that can be compared, and the stacks that cannot be."""
    comparison = compare_stacks(data, stacks, scope)
    is_tested = comparison.is_tested()
    untested = list[str]()
    remaining = [index for index, stack in enumerate(stacks) if stack not in privileged]
    while len(remaining) > 1 and not is_tested[np.ix_(remaining, remaining)].all():
        # The stack that is in most of the pairs without an interval; of several, the last one.
        worst = min(reversed(remaining), key=lambda index: int(is_tested[index, remaining].sum()))
        remaining.remove(worst)
        untested.append(stacks[worst])
    if len(remaining) < 2:
        return None, untested
    part = comparison.of(remaining)
    probabilities = dict(zip(part.stacks, part.probability_best(), strict=True))
    leader = remaining[int(part.difference.mean(1).argmax())]
    low, high = comparison.intervals()
    margins = []
    for index, stack in enumerate(stacks):
        if index == leader or stack in untested:
            continue
        if stack in privileged and not is_tested[leader, index]:
            untested.append(stack)
            continue
        difference, ends = float(comparison.difference[leader, index]), (low[leader, index], high[leader, index])
        probability = None if stack in privileged else float(probabilities[stack])
        margins.append(Margin(stack, difference, float(ends[0]), float(ends[1]), probability, stack in privileged))
    margins.sort(key=lambda margin: (margin.difference, margin.stack))
    is_best = all(margin.low > 0 for margin in margins if not margin.privileged)
    return Finding(scope, stacks[leader], is_best, float(probabilities[stacks[leader]]), tuple(margins)), untested
