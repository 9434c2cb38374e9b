"""Titles of groups of settings that are compared together, and what distinguishes the settings of a group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from typing import Any

from noisybench.leaderboard.display_names import distinguishing_titles, short_name
from noisybench.utils.text import counted

Summary = Mapping[str, Any]
"""Summary of a setting, see `payload.SettingPayload`."""


def distinct_labels(summaries: Sequence[Summary]) -> list[str]:
    """Return what distinguishes the settings of a group: budget and label set only where the titles do not."""
    for further in ((), ("network", "epochs"), ("network", "epochs", "budget", "labels")):
        titles = [_label_parts(summary, further) for summary in summaries]
        labels = distinguishing_titles(titles)
        if len(set(labels)) == len(labels):
            break
    return labels


def _label_parts(summary: Summary, further: Sequence[str]) -> list[str]:
    values = {
        "network": summary["network"],
        "epochs": counted(summary["epochs"], "epoch"),
        "budget": f"budget {summary['budget'][:8]}",
        "labels": f"labels {summary['labels'][:8]}",
    }
    return [*(summary[name] for name in ("dataset", "noise", "task")), *(values[name] for name in further)]


def group_title(summaries: Sequence[Summary]) -> str:
    """Return datasets, tasks and budgets of a group without their parameters."""
    return _title(summaries, ())


def group_titles(groups: Sequence[Sequence[Summary]]) -> list[str]:
    """Return the title of each group, with parameters and then the budget only where groups would share a title.

    Args:
        groups: summaries of the settings of each group.
    """
    base, titles = list(map(group_title, groups)), list[str]()
    for title, summaries in zip(base, groups, strict=True):
        same = [other for each, other in zip(base, groups, strict=True) if each == title]
        differing = [kind for kind in KINDS if len({_names(other, kind) for other in same}) > 1]
        titles.append(_title(summaries, differing))
    counts = Counter(titles)
    return [
        title if counts[title] == 1 else f"{title} · budget {summaries[0]['budget'][:8]}"
        for title, summaries in zip(titles, groups, strict=True)
    ]


KINDS = ("dataset", "task")
"""Fields of a summary that titles of groups name, beside network and epochs."""


def _names(summaries: Sequence[Summary], kind: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(summary[kind] for summary in summaries if summary[kind]))


def _title(summaries: Sequence[Summary], with_parameters: Container[str]) -> str:
    parts = []
    for kind in KINDS:
        names = _names(summaries, kind)
        shown = map(short_name, names) if kind in with_parameters else (name.partition("(")[0] for name in names)
        parts.append(", ".join(dict.fromkeys(shown)))
    budgets = list(dict.fromkeys(summary["facets"]["network"] for summary in summaries))
    parts.append(budgets[0] if len(budgets) == 1 else f"{len(budgets)} budgets")
    return " · ".join(part for part in parts if part)
