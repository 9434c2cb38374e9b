"""Overview of all mitigations: size, needs, fidelity, and their place and cost on the boards that were measured."""

from __future__ import annotations

import ast
import io
import statistics
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from noisybench.config.component_card import ComponentCard, component_card
from noisybench.config.registry import KINDS, Entry, list_entries
from noisybench.config.source_code import SourceTree
from noisybench.leaderboard.filters import member_names
from noisybench.leaderboard.measurements import Measurement
from noisybench.leaderboard.standings import best_group
from noisybench.leaderboard.table import Setting, build_settings
from noisybench.leaderboard.verdict import BASELINE

AUXILIARY = "noisybench.training.auxiliary"
"""Module that a mitigation with auxiliary runs imports."""
NO_CODE = frozenset({
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING, tokenize.ENDMARKER
})  # fmt: skip
"""Types of tokens that are no code."""


@dataclass(frozen=True)
class BoardPlace:
    """Standing of one stack on one board.

    Attributes:
        board: name of the entry.
        stack: stack with its parameters.
        place: place by the mean score over the settings that all stacks have, from 1.
        stacks: number of stacks on the board.
        best: number of settings in which it is in the best rank group.
        ranked: number of settings in which the seeds suffice to rank it.
        cost: median over the settings of its wall-clock seconds divided by those of cross-entropy; None without them.
    """

    board: str
    stack: str
    place: int
    stacks: int
    best: int
    ranked: int
    cost: float | None


@dataclass(frozen=True)
class MethodOverview:
    """One mitigation.

    Attributes:
        card: its card, with papers, privileged information and fidelity.
        lines: lines of code of its file, without comments, docstrings and the fidelity card.
        shared_lines: lines of code of the other modules of mitigations that it imports.
        needs: needs beyond one network, the weak view and the labels, with its default parameters.
        places: standings of the stacks that consist of it alone, or, without those, of stacks with it.
    """

    card: ComponentCard
    lines: int
    shared_lines: int
    needs: tuple[str, ...]
    places: tuple[BoardPlace, ...]


def method_overviews(measurements: Iterable[Measurement]) -> list[MethodOverview]:
    """Return an overview of each mitigation that is part of noisybench, by name.

    Args:
        measurements: finished runs of entries; those of a user's store, which have no entry, are left out.

    Example:
        >>> overviews = {overview.card.name: overview for overview in method_overviews([])}
        >>> overviews["co_teaching"].needs, overviews["co_teaching"].places
        (('noise rate', '2 networks'), ())
    """
    places, tree = board_places(measurements), SourceTree()
    entries = [entry for entry in list_entries("mitigations").values() if entry.module.startswith(KINDS["mitigations"])]
    return [_overview(entry, tree, _places_with(entry.name, places)) for entry in entries]


def _overview(entry: Entry, tree: SourceTree, places: Sequence[BoardPlace]) -> MethodOverview:
    modules = {module for module in tree.closure(entry.module) if module.startswith(f"{KINDS['mitigations']}.")}
    has_auxiliary = any(AUXILIARY in source.imports for module in modules if (source := tree.source(module)))
    return MethodOverview(
        card=component_card(entry),
        lines=count_lines(entry.source.read_text(encoding="utf-8")),
        shared_lines=sum(_count_module(tree, module) for module in modules - {entry.module}),
        needs=(*describe_requirements(entry.load_class()().requirements), *["auxiliary run"] * has_auxiliary),
        places=tuple(places),
    )


def _count_module(tree: SourceTree, module: str) -> int:
    path = tree.path(module)
    return count_lines(path.read_text(encoding="utf-8")) if path else 0


def count_lines(source: str) -> int:
    """Return the number of lines of code in a Python module: no comments, docstrings, fidelity cards or empty lines.

    Example:
        >>> count_lines('def f(x):\\n    "Double."\\n\\n    # Add.\\n    return (x\\n        + x)\\n')
        3
    """
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = {line for token in tokens if token.type not in NO_CODE for line in range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(source)):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_card = isinstance(node, ast.Assign) and [getattr(each, "id", "") for each in node.targets] == ["fidelity"]
        if (is_text or is_card) and isinstance(node, ast.stmt):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def describe_requirements(requirements: Any) -> tuple[str, ...]:
    """Return the needs of a mitigation beyond one network, the weak view and the labels, in a few words each.

    Args:
        requirements: `Requirements` of a mitigation.

    Example:
        >>> from noisybench.config.registry import get_entry
        >>> describe_requirements(get_entry("mitigations", "trinet").load_class()().requirements)
        ('noise rate', '3 networks')
    """
    needs = [name.replace("_", " ") for name in requirements.privileged]
    counts = {
        "networks": requirements.networks,
        "views": len({"weak", *requirements.views}),
        "phases": len(requirements.phases),
    }
    needs += [f"{count} {name}" for name, count in counts.items() if count > 1]
    if requirements.per_sample_state:
        needs.append("state per example")
    if requirements.head_optimizers:
        needs.append("own optimizer")
    return tuple(needs)


def board_places(measurements: Iterable[Measurement]) -> list[BoardPlace]:
    """Return the standing of every stack on each board with several stacks, by the score after the last epoch.

    Where stacks lack some settings of a board, those that all of them have decide, since scores of others differ in difficulty.

    Example:
        >>> from noisybench.leaderboard.measurement_tables import builtin_measurements
        >>> places = [place for place in board_places(builtin_measurements()) if place.board == "quickstart"]
        >>> places[0].stack, places[0].place, places[0].stacks, places[0].ranked
        ('elr', 1, 8, 3)
    """
    ordered = sorted((each for each in measurements if each.entry), key=lambda each: each.entry)
    places = []
    for board, runs in groupby(ordered, key=lambda each: each.entry):
        settings = build_settings(runs)
        places += _places_on(board, settings)
    return places


def _places_on(board: str, settings: Sequence[Setting]) -> list[BoardPlace]:
    scores, ratios = list[dict[str, float]](), defaultdict[str, list[float]](list)
    best, ranked = Counter[str](), Counter[str]()
    for setting in settings:
        privileged = {row.stack for row in setting.rows if row.privileged}
        group = best_group(setting.ranking.ranks, setting.mean_scores(), privileged)
        seconds = {row.stack: row.wall_seconds.mean for row in setting.rows if row.wall_seconds}
        scores.append({row.stack: summary.mean for row in setting.rows if (summary := row.scores["last"]) is not None})
        for row in setting.rows:
            if row.stack not in scores[-1]:
                continue
            best[row.stack] += row.stack in group
            ranked[row.stack] += setting.ranking.ranks.get(row.stack) is not None
            if row.stack in seconds and seconds.get(BASELINE):
                ratios[row.stack].append(seconds[row.stack] / seconds[BASELINE])
    stacks = set[str]().union(*scores)
    shared = [each for each in scores if len(each) == len(stacks)]
    # A board with one stack ranks nothing.
    if len(stacks) < 2 or not shared:
        return []
    order = sorted(stacks, key=lambda stack: (-statistics.fmean(each[stack] for each in shared), stack))
    return [
        BoardPlace(
            board, stack, place, len(order), best[stack], ranked[stack],
            statistics.median(ratios[stack]) if stack in ratios else None,
        )
        for place, stack in enumerate(order, 1)
    ]  # fmt: skip


def _places_with(name: str, places: Sequence[BoardPlace]) -> list[BoardPlace]:
    """Return the places of stacks that consist of a mitigation alone, or else of those with it."""
    members = {place: member_names(place.stack) for place in places}
    alone = [place for place in places if members[place] == [name]]
    return alone or [place for place in places if name in members[place]]
