"""Comparisons of stacks over several settings, and over several draws of one noise, as JSON-like values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from noisybench.leaderboard.display_names import short_title
from noisybench.leaderboard.group_titles import distinct_labels, group_titles
from noisybench.leaderboard.payload import SettingPayload, short, short_summary
from noisybench.leaderboard.setting_description import without_parameters
from noisybench.leaderboard.setting_scores import RANKING_RULES
from noisybench.leaderboard.statistics import FriedmanResult, compare_across_settings, rank, summarize
from noisybench.leaderboard.text_tables import describe_detectable


def across_settings(payloads: Sequence[SettingPayload]) -> list[dict[str, Any]]:
    """Compare stacks over settings that share budget and stacks, by each ranking rule."""
    # Friedman's test needs a complete table of stacks and settings, and each stack has the same code in all of them.
    groups: dict[tuple[str, frozenset[tuple[str, str]]], list[SettingPayload]] = {}
    for payload in payloads:
        groups.setdefault((payload.summary["budget"], frozenset(payload.seed_scores.codes.items())), []).append(payload)
    comparisons = list[tuple[list[dict[str, Any]], dict[str, Any]]]()
    for (budget, codes), members in groups.items():
        stacks = {stack for stack, _ in codes}
        rules = {}
        for rule in RANKING_RULES:
            # A rule without a value in one setting would leave a hole in the table, as without a validation split.
            if all(rule in member.scores[stack] for member in members for stack in stacks):
                result = compare_across_settings(
                    {stack: [member.scores[stack][rule] for member in members] for stack in sorted(stacks)}
                )
                if result is not None:
                    rules[rule] = {
                        "ranks": result.average_ranks,
                        "p": result.p,
                        "difference": result.critical_difference,
                        "unseparable": _unseparable(result),
                    }
        if rules:
            summaries = [member.summary for member in members]
            keys, labels = [summary["key"] for summary in summaries], distinct_labels(summaries)
            comparisons.append((summaries, {"budget": budget, "settings": keys, "labels": labels, "rules": rules}))
    titles = group_titles([summaries for summaries, _ in comparisons])
    titled = [{"title": title, **comparison} for title, (_, comparison) in zip(titles, comparisons, strict=True)]
    # Comparisons that say nothing come last.
    return sorted(
        titled,
        key=lambda each: (all(rule["unseparable"] for rule in each["rules"].values()), each["title"], each["budget"]),
    )


def _unseparable(result: FriedmanResult) -> str:
    """Return why no two stacks of a comparison could be separated; empty if they could."""
    if result.settings >= result.min_settings:
        return ""
    return (
        f"Not drawn: with {len(result.average_ranks)} stacks and {result.settings} settings the critical difference is above "
        f"the largest possible difference of average ranks, {len(result.average_ranks) - 1}. "
        f"At least {result.min_settings} settings are needed."
    )


def _mean(values: Mapping[int, float]) -> float:
    return sum(values.values()) / len(values)


def noise_draws(payloads: Sequence[SettingPayload]) -> list[dict[str, Any]]:
    """Compare stacks over several draws of the same noise, with one mean over seeds per draw.

    Seeds of one draw share its incorrect labels, so they are no independent evidence about another draw.
    """
    groups: dict[str, list[SettingPayload]] = {}
    for payload in payloads:
        groups.setdefault(payload.summary["draws"], []).append(payload)
    comparisons = []
    for members in groups.values():
        if len({member.summary["labels"] for member in members}) < 2:
            continue
        rules = {}
        for rule in RANKING_RULES:
            # Draws take the place of seeds as the blocks of the paired test.
            values = {
                stack: {draw: member.scores[stack][rule] for draw, member in enumerate(members)}
                for stack in sorted(set.intersection(*(set(member.scores) for member in members)))
                if all(rule in member.scores[stack] for member in members)
                # The mean over draws is a mean of runs of one code.
                and len({member.summary["codes"][stack] for member in members}) == 1
            }
            ranking = rank(values)
            if ranking.ranks:
                # All stacks have a value for every draw, so sums order them as means would.
                best_first = sorted(values, key=lambda stack: -sum(values[stack].values()))
                rules[rule] = {
                    "rows": [
                        [
                            ranking.ranks[stack],
                            stack,
                            short_summary(summarize(list(values[stack].values()), is_fraction=True)),
                            [short(score) for score in values[stack].values()],
                        ]
                        for stack in best_first
                    ],
                    "detectable": describe_detectable(ranking, max(map(_mean, values.values()))),
                }
        if rules:
            first = members[0].summary
            parts = (first["dataset"], without_parameters(first["noise"], ["seed"]), first["task"])
            title = f"{short_title(parts)} · {first['facets']['network']}"
            keys = [member.summary["key"] for member in members]
            comparisons.append({"title": title, "settings": keys, "rules": rules})
    return comparisons
