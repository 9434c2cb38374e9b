"""The answer to "which method should I use?" for each group of settings, and over all of them: computed from the verdicts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from noisybench.leaderboard.display_names import stack_names
from noisybench.leaderboard.group_titles import distinct_labels, group_title
from noisybench.leaderboard.payload import SettingPayload
from noisybench.leaderboard.rounding import rounded
from noisybench.leaderboard.setting_scores import RANKING_RULES
from noisybench.leaderboard.standings import best_group
from noisybench.leaderboard.verdict import (
    BASELINE,
    Finding,
    Margin,
    find_in_setting,
    reach_overall_verdicts,
    reach_verdicts,
)
from noisybench.leaderboard.verdict_text import verdict_rows, verdict_sentences

MAX_TIES = 2
"""Most ties that a headline names."""


@dataclass(frozen=True)
class Contrast:
    """Another stack against the one that is recommended.

    Attributes:
        stack: the other stack.
        difference: score of the recommended stack minus that of the other one.
        low: lower end of the 95 % interval, which holds for this pair alone; None without two seeds.
        high: upper end of the interval.
        needs: privileged information that the other stack uses.
    """

    stack: str
    difference: float
    low: float | None
    high: float | None
    needs: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """The method to use in some settings, by one selection rule.

    Attributes:
        leader: stack without privileged information that has the highest mean score.
        is_best: whether it is separated from all others without privileged information.
        ties: those that it is not separated from, by mean score.
        equal: those of exactly the same mean score, with which no stack leads.
        probability: probability of the leader of being the best of them; None without two seeds.
        num_stacks: number of stacks without privileged information.
        num_first: number of settings in which the leader is in the best rank group.
        num_settings: number of label sets.
        gain: the leader against cross-entropy; None if it was not measured, or leads itself.
        time: time of a run of the leader relative to cross-entropy, geometric mean over settings; None if unknown.
        runner_up: the next stack without privileged information.
        privileged: the best stack with privileged information.
    """

    leader: str
    is_best: bool
    ties: tuple[str, ...]
    equal: tuple[str, ...]
    probability: float | None
    num_stacks: int
    num_first: int
    num_settings: int
    gain: Contrast | None
    time: float | None
    runner_up: Contrast | None
    privileged: Contrast | None


def answer_groups(payloads: Sequence[SettingPayload]) -> list[dict[str, Any]]:
    """Return the answers of a board as JSON-like values, those over several budgets first and those without a test last.

    Args:
        payloads: settings in the order of the page.

    Returns:
        For each group of settings: its title, the keys of its settings, whether it is an overall one, and by selection rule the
        `Answer`, the sentences of its verdict, and a row for each of its stacks.

    Example:
        >>> from noisybench.leaderboard.measurement_tables import builtin_measurements
        >>> from noisybench.leaderboard.payload import setting_payload
        >>> from noisybench.leaderboard.table import build_settings
        >>> runs = [each for each in builtin_measurements() if each.entry == "quickstart"]
        >>> settings = build_settings(runs)
        >>> group, = answer_groups([setting_payload(setting) for setting in settings])
        >>> answer = group["rules"]["last"]["answer"]
        >>> answer["leader"], answer["num_first"], answer["num_settings"]
        ('elr', 3, 3)
    """
    label_sets = [payload.seed_scores for payload in payloads]
    by_key = {payload.summary["key"]: payload for payload in payloads}
    names = stack_names(stack for payload in payloads for stack in payload.summary["codes"])
    groups: dict[tuple[str, ...], dict[str, Any]] = {}
    for rule in RANKING_RULES:
        covered = set[str]()
        for is_overall, reach in ((True, reach_overall_verdicts), (False, reach_verdicts)):
            for verdict in reach(label_sets, rule):
                members = [by_key[key] for key in verdict.settings]
                group = _group(groups, verdict.title, members, is_overall)
                group["rules"][rule] = {
                    **_answer_payload(answer_of(verdict.finding, members, rule), names),
                    "sentences": verdict_sentences(verdict),
                    "rows": verdict_rows(verdict),
                }
                covered |= set() if is_overall else set(verdict.settings)
        left = [payload for payload in payloads if payload.summary["key"] not in covered]
        for members, answer in _answers_without_verdict(left, rule):
            titles = dict.fromkeys(payload.summary["title"] for payload in members)
            group = _group(groups, "; ".join(titles), members, False)
            group["rules"][rule] = {**_answer_payload(answer, names), "sentences": [], "rows": []}
    counts = Counter(group["short"] for group in groups.values())
    for group in groups.values():
        # Of two groups of one task and budget, one has more settings and the other more stacks.
        if counts[group["short"]] > 1:
            group["short"] += f" · {len(group['settings'])} settings"
    order = {payload.summary["key"]: place for place, payload in enumerate(payloads)}
    return sorted(
        groups.values(),
        key=lambda group: (
            not group["overall"],
            all(found["answer"]["probability"] is None for found in group["rules"].values()),
            min(map(order.__getitem__, group["settings"])),
        ),
    )


def _answer_payload(answer: Answer, names: Mapping[str, str]) -> dict[str, Any]:
    return {"claim": claim(answer, names), "headline": headline(answer, names), "answer": asdict(answer)}


def _group(
    groups: dict[tuple[str, ...], dict[str, Any]], title: str, members: Sequence[SettingPayload], is_overall: bool
) -> dict[str, Any]:
    keys = [payload.summary["key"] for payload in members]
    summaries = [payload.summary for payload in members]
    empty = {
        "title": title,
        "short": group_title(summaries),
        "settings": keys,
        "labels": distinct_labels(summaries),
        "overall": is_overall,
        "rules": {},
    }
    return groups.setdefault((str(is_overall), *sorted(keys)), empty)


def claim(answer: Answer, names: Mapping[str, str]) -> tuple[str, str]:
    """Return an answer in one sentence as subject and predicate.

    Args:
        answer: the answer.
        names: short names of stacks by whole names; others are shown whole.

    Example:
        >>> answer = Answer("elr", False, ("gce",), ("gce",), 0.5, 2, 3, 3, None, None, None, None)
        >>> claim(answer, {})
        ('no stack', 'leads without privileged information: elr, gce have equal scores')
    """
    leader = names.get(answer.leader, answer.leader)
    if answer.num_stacks == 1:
        return leader, "is the only method without privileged information"
    if answer.equal:
        stacks = ", ".join(names.get(stack, stack) for stack in (answer.leader, *answer.equal))
        return "no stack", f"leads without privileged information: {stacks} have equal scores"
    if answer.probability is None:
        return leader, "has the highest score, untested: too few seeds"
    return leader, f"{'leads' if answer.ties else 'is best'} without privileged information"


def headline(answer: Answer, names: Mapping[str, str]) -> str:
    """Return an answer in one sentence that also names the ties.

    Args:
        answer: the answer.
        names: short names of stacks by whole names; others are shown whole.

    Example:
        >>> answer = Answer("elr(reg_weight=2)", False, ("gce", "sce", "mixup"), (), 0.6, 5, 3, 3, None, None, None, None)
        >>> headline(answer, {"elr(reg_weight=2)": "elr (reg weight 2)"})
        'elr (reg weight 2) leads, not separated from gce, sce and 1 more'
    """
    subject, predicate = claim(answer, names)
    sentence = f"{subject} {predicate}"
    if answer.num_stacks > 1:
        sentence = sentence.replace(" without privileged information", "")
    if not answer.ties or answer.equal or answer.probability is None:
        return sentence
    shown = [names.get(stack, stack) for stack in answer.ties[:MAX_TIES]]
    more = len(answer.ties) - len(shown)
    *first, last = [*shown, *([f"{more} more"] if more else [])]
    return f"{sentence}, not separated from {' and '.join(part for part in (', '.join(first), last) if part)}"


def answer_of(finding: Finding, members: Sequence[SettingPayload], rule: str) -> Answer:
    """Return the answer that a finding gives to its settings.

    Args:
        finding: finding of a verdict by a selection rule.
        members: settings of the verdict.
        rule: the selection rule.
    """
    needs: dict[str, set[str]] = {}
    for payload in members:
        for stack, names in payload.summary["privileged"].items():
            needs.setdefault(stack, set()).update(names)

    def contrast(margins: Sequence[Margin]) -> Contrast | None:
        if not margins:
            return None
        first = margins[0]
        ends = rounded(first.low), rounded(first.high)
        return Contrast(first.stack, rounded(first.difference), *ends, tuple(sorted(needs.get(first.stack, ()))))

    leader, index = finding.leader, RANKING_RULES.index(rule)
    others = [margin for margin in finding.margins if not margin.privileged]
    ties = [margin.stack for margin in others if margin.low <= 0]
    if len(members) == 1:
        # The ranks of one table account for all pairs of its stacks.
        ranks = members[0].summary["ranks"]
        # A stack of another rank may still be too noisy to be separated from the leader itself.
        group = [margin.stack for margin in others if ranks[margin.stack][index] == ranks[leader][index]]
        ties = [margin.stack for margin in others if margin.stack in {*group, *ties}]
    return Answer(
        leader=leader,
        is_best=not ties,
        ties=tuple(ties),
        equal=tuple(margin.stack for margin in others if margin.difference == 0),
        probability=round(finding.probability, 3),
        num_stacks=finding.num_stacks,
        num_first=sum(_is_first(payload.summary, leader, index) for payload in members),
        num_settings=len(members),
        gain=contrast([margin for margin in finding.margins if margin.stack == BASELINE]),
        time=_relative_time([payload.summary["seconds"] for payload in members], leader),
        runner_up=contrast(others),
        privileged=contrast([margin for margin in finding.margins if margin.privileged]),
    )


def _answers_without_verdict(
    payloads: Sequence[SettingPayload], rule: str
) -> Iterator[tuple[list[SettingPayload], Answer]]:
    """Yield the answers of settings that are in no verdict: one for each that has a test, and one for the rest of a budget."""
    untested: dict[str, list[SettingPayload]] = {}
    for payload in payloads:
        finding = find_in_setting(payload.seed_scores, rule)
        if finding is not None:
            yield [payload], answer_of(finding, [payload], rule)
        elif sum(rule in means for means in payload.scores.values()) > 1:
            untested.setdefault(payload.seed_scores.group, []).append(payload)
    for members in untested.values():
        answer = _untested_answer(members, rule)
        parts = [(members, answer)] if answer else [([one], _untested_answer([one], rule)) for one in members]
        yield from ((part, found) for part, found in parts if found)


def _untested_answer(members: Sequence[SettingPayload], rule: str) -> Answer | None:
    """Return the answer without a test: by the mean over settings; None without two stacks that all settings share."""
    found = [{stack: each[rule] for stack, each in payload.scores.items() if rule in each} for payload in members]
    shared = set.intersection(*map(set, found))
    means = {stack: math.fsum(each[stack] for each in found) / len(found) for stack in shared}
    needs: dict[str, list[str]] = {}
    for payload in members:
        needs |= payload.summary["privileged"]
    ordered = sorted(means, key=lambda stack: (-means[stack], stack))
    stacks = [stack for stack in ordered if stack not in needs]
    if len(means) < 2 or not stacks:
        return None
    leader, *others = stacks

    def contrast(names: Sequence[str]) -> Contrast | None:
        if not names:
            return None
        return Contrast(names[0], rounded(means[leader] - means[names[0]]), None, None, tuple(needs.get(names[0], ())))

    return Answer(
        leader=leader,
        is_best=False,
        ties=(),
        equal=tuple(stack for stack in others if means[stack] == means[leader]),
        probability=None,
        num_stacks=len(stacks),
        num_first=sum(each[leader] == max(each[stack] for stack in stacks) for each in found),
        num_settings=len(members),
        gain=contrast([stack for stack in others if stack == BASELINE]),
        time=_relative_time([payload.summary["seconds"] for payload in members], leader),
        runner_up=contrast(others),
        privileged=contrast([stack for stack in ordered if stack in needs]),
    )


def _is_first(summary: Mapping[str, Any], stack: str, index: int) -> bool:
    """Return whether a stack is in the best group of a setting."""
    ranks = {name: by_rule[index] for name, by_rule in summary["ranks"].items()}
    scores = {name: by_rule[index][0] for name, by_rule in summary["scores"].items() if by_rule[index]}
    return stack in best_group(ranks, scores, summary["privileged"])


def _relative_time(seconds: Sequence[Mapping[str, float]], stack: str) -> float | None:
    """Return the time of a run relative to cross-entropy, as geometric mean over the settings that have both."""
    ratios = [each[stack] / each[BASELINE] for each in seconds if each.get(stack) and each.get(BASELINE)]
    return round(math.exp(math.fsum(map(math.log, ratios)) / len(ratios)), 3) if ratios else None
