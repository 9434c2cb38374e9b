"""Blocks about all mitigations of a task, from the registry and all entries."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence

from blocks.entry import Block, shipped
from noisybench.leaderboard.filters import member_names
from noisybench.leaderboard.method_overview import BoardPlace, MethodOverview, method_overviews


def methods(task: str) -> Block:
    """Return all mitigations whose first task is the given one: size, needs, places and costs on the entries, fidelity."""
    overviews = [each for each in _overviews() if each.card.tasks[0] == task]
    if not overviews:
        sys.exit(f"error: no mitigation is for {task} first")
    cells = [["method", "paper", "lines of code", "needs", "place", "cost", "fidelity"]]
    cells += [_method_row(overview) for overview in overviews]
    measured = sum(bool(each.places) for each in overviews)
    return [(f"Methods: {len(overviews)}. Measured on an entry that ships: {measured}.", cells)]


@functools.cache
def _overviews() -> list[MethodOverview]:
    return method_overviews(shipped())


def _method_row(overview: MethodOverview) -> list[str]:
    card = overview.card
    shared = f" + {overview.shared_lines}" if overview.shared_lines else ""
    boards: dict[str, list[BoardPlace]] = {}
    for each in overview.places:
        boards.setdefault(each.board, []).append(each)
    costs = {name: [each.cost for each in places if each.cost is not None] for name, places in boards.items()}
    return [
        f"`{card.name}`",
        f"[{card.papers[0].citation}]({card.papers[0].url})" if card.papers else "–",
        f"{overview.lines}{shared}",
        ", ".join(overview.needs) or "–",
        "; ".join(_place_text(card.name, places) for places in boards.values()) or "not measured",
        "; ".join(f"{_span(values, '.1f')} ({name})" for name, values in costs.items() if values) or "–",
        _fidelity_text(overview),
    ]


def _place_text(method: str, places: Sequence[BoardPlace]) -> str:
    first = places[0]
    others = {name for each in places for name in member_names(each.stack)} - {method}
    text = f"{_span([each.place for each in places], 'd')} of {first.stacks} ({first.board}"
    text += f", {len(places)} stacks" if len(places) > 1 else ""
    text += f" with {', '.join(sorted(others))}" if others else ""
    best, ranked = max((each.best, each.ranked) for each in places)
    return f"{text}; best in {best} of {ranked})" if ranked else f"{text})"


def _span(values: Sequence[float], form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def _fidelity_text(overview: MethodOverview) -> str:
    fidelity = overview.card.fidelity
    if fidelity is None:
        return "no card"
    basis = "reference code" if fidelity.reference else "own tests"
    count = len(fidelity.deviations)
    deviations = f"{count} deviation{'s' * (count > 1)}" if count else "no deviation"
    return f"[{basis}](fidelity.md#{overview.card.name}), {deviations}"
