"""Standing of each stack within its setting: in the best rank group, and against cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from noisybench.leaderboard.verdict import BASELINE

ALPHA = 0.05
"""Level below which a p-value, adjusted for all pairs of a setting, counts as significant."""


def best_group(ranks: Mapping[str, int | None], scores: Mapping[str, float], privileged: Container[str]) -> set[str]:
    """Return the stacks of a setting that share the rank of its leader, the best stack without privileged information.

    A stack that knows more than the others may have a better rank; it counts as best as well. A stack that varies so much over
    seeds that it cannot be separated from the leader does not, if one that is separated has a higher score.

    Args:
        ranks: rank by stack; None for those that are not ranked.
        scores: mean score of each ranked stack.
        privileged: stacks that use privileged information.

    Example:
        >>> ranks = {"knows_the_rate": 1, "elr": 2, "gce": 2, "cross_entropy": 4, "unstable": 2}
        >>> scores = {"knows_the_rate": 0.9, "elr": 0.8, "gce": 0.7, "cross_entropy": 0.6, "unstable": 0.3}
        >>> sorted(best_group(ranks, scores, {"knows_the_rate"}))
        ['elr', 'gce', 'knows_the_rate']
    """
    known = {stack: rank for stack, rank in ranks.items() if rank is not None}
    candidates = [stack for stack in known if stack not in privileged]
    if not candidates:
        return {stack for stack, rank in known.items() if rank == 1}
    best = known[max(candidates, key=lambda stack: (scores[stack], -known[stack]))]
    bound = max((scores[stack] for stack in candidates if known[stack] > best), default=-math.inf)
    return {stack for stack, rank in known.items() if rank <= best and scores[stack] >= bound}


@dataclass(frozen=True)
class Standing:
    """A stack in one setting, by one selection rule.

    Attributes:
        stack: stack with its parameters.
        is_best: whether it is in the `best_group` of the setting.
        score: mean score over seeds, in [0, 1].
        gain: mean difference from cross-entropy on common seeds; None if one of the two is not ranked.
        is_significant: whether the ranking test separates the stack from cross-entropy.
    """

    stack: str
    is_best: bool
    score: float
    gain: float | None
    is_significant: bool


@dataclass(frozen=True)
class SettingStandings:
    """Standings of all stacks of a setting.

    Attributes:
        by_rule: standings by selection rule.
        cost: wall-clock seconds of each stack divided by those of cross-entropy, by stack; empty without cross-entropy.
    """

    by_rule: Mapping[str, Sequence[Standing]]
    cost: Mapping[str, float]


def setting_standings(detail: Mapping[str, object]) -> SettingStandings:
    """Return the standings of a setting.

    Args:
        detail: rows, ranks and pairs as `payload.setting_payload` collects them for the page.

    Example:
        >>> def row(stack, score, seconds):
        ...     last, wall_seconds = [score, None, None, None], [seconds, None, None, None]
        ...     return {"stack": stack, "privileged": [], "last": last, "wall_seconds": wall_seconds}
        >>> rows = [row("elr", 0.9, 3.0), row("cross_entropy", 0.7, 2.0)]
        >>> pairs = [[0, 1, 0.2, None, None, 0.01, 0.1, 0.1, 0]]
        >>> standings = setting_standings({"rows": rows, "rules": {"last": {"ranks": [1, 2], "pairs": pairs}}})
        >>> elr, _ = standings.by_rule["last"]
        >>> elr.is_best, elr.gain, elr.is_significant, standings.cost["elr"]
        (True, 0.2, True, 1.5)
    """
    rows, rules = detail["rows"], detail["rules"]
    assert isinstance(rows, list)
    assert isinstance(rules, dict)
    stacks = [row["stack"] for row in rows]
    privileged = {row["stack"] for row in rows if row["privileged"]}
    baseline = stacks.index(BASELINE) if BASELINE in stacks else None
    by_rule = {}
    for rule, ranking in rules.items():
        gains: dict[int, tuple[float, float]] = {}
        for first, second, difference, _, _, p, *_ in ranking["pairs"]:
            if baseline in (first, second):
                gains[second if first == baseline else first] = (-difference if first == baseline else difference, p)
        scores = {row["stack"]: row[rule][0] for row in rows if row[rule] is not None}
        best = best_group(dict(zip(stacks, ranking["ranks"], strict=True)), scores, privileged)
        by_rule[rule] = [
            Standing(
                row["stack"], row["stack"] in best, row[rule][0],
                gains[index][0] if index in gains else None, index in gains and gains[index][1] < ALPHA,
            )
            for index, row in enumerate(rows)
            if row[rule] is not None
        ]  # fmt: skip
    seconds = {row["stack"]: row["wall_seconds"][0] for row in rows if row["wall_seconds"] is not None}
    unit = seconds.get(BASELINE, 0)
    return SettingStandings(by_rule, {stack: each / unit for stack, each in seconds.items()} if unit else {})
