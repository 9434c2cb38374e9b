"""Warnings on seeds of a table that stacks lack or that have no score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping


def seeds_without_score(
    present: Mapping[str, Collection[int]], scores: Mapping[str, Mapping[int, float]], rule: str
) -> list[str]:
    """Return a warning on stacks of which some runs have a score and others have none.

    Args:
        present: seeds of the runs of each stack.
        scores: score of each run that has one, by stack and seed.
        rule: selection rule of the scores.

    Example:
        >>> seeds_without_score({"elr": {0, 1}, "gce": {0, 1}}, {"elr": {0: 0.9}, "gce": {}}, "last")
        ['seeds without a score by last, left out: elr 1']
    """
    without = {stack: set(seeds) - scores[stack].keys() for stack, seeds in present.items() if scores[stack]}
    parts = [f"{stack} {_listed(seeds)}" for stack, seeds in without.items() if seeds]
    return [f"seeds without a score by {rule}, left out: {'; '.join(parts)}"] if parts else []


def differing_seeds(present: Mapping[str, Collection[int]]) -> list[str]:
    """Return warnings on stacks that lack seeds which most stacks have, and on those that have others.

    Example:
        >>> differing_seeds({"elr": {0, 1}, "gce": {0, 1}, "sce": {0, 7}})
        ['missing seeds: sce lacks 1', 'seeds that most stacks lack: sce 7']
    """
    counts = Counter(seed for seeds in present.values() for seed in set(seeds))
    # A newcomer on other seeds must not make all the others look incomplete. Of two stacks, neither is the newcomer.
    usual = {seed for seed, count in counts.items() if 2 * count > len(present)} or {*counts}
    lacking = {stack: usual - set(seeds) for stack, seeds in present.items()}
    further = {stack: set(seeds) - usual for stack, seeds in present.items()}
    lines = [
        ("missing seeds", [f"{stack} lacks {_listed(seeds)}" for stack, seeds in lacking.items() if seeds]),
        ("seeds that most stacks lack", [f"{stack} {_listed(seeds)}" for stack, seeds in further.items() if seeds]),
    ]
    return [f"{title}: {'; '.join(parts)}" for title, parts in lines if parts]


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))
