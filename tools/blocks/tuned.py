"""Block about stacks with parameters that a search has selected, beside their defaults."""

from __future__ import annotations

import statistics
import sys
from typing import Any

from blocks.entry import RULE, Block, Entry, boards
from noisybench.config.overrides import parse_stack
from noisybench.config.scalars import plain_value
from noisybench.leaderboard.display_names import short_name, untuned_name
from noisybench.leaderboard.statistics import Summary, summarize
from noisybench.leaderboard.table import StackRow

Parameters = dict[str, Any]


def tuned(entry: Entry) -> Block:
    """Return the scores of tuned stacks beside those of their defaults, which the entry of the suite has: a table per setting."""
    board = boards()[entry.name]
    rows = {each.description.label_set: each.rows for each in Entry(board["suite"]).settings}
    block: Block = []
    for title, setting in zip(entry.titles, entry.settings, strict=True):
        pairs = [(row, _default(row, rows[setting.description.label_set])) for row in setting.rows]
        cells, changes = [["stack", "defaults", "tuned", "difference", "selected"]], []
        for row, default in pairs:
            before, after = _paired_scores(default, row)
            change = summarize([new - old for old, new in zip(before, after, strict=True)])
            assert change is not None
            changes.append(change.mean)
            means = [f"{statistics.fmean(scores):.1f}" for scores in (before, after)]
            cells.append([short_name(default.stack), *means, _interval(change), _selected(row, default)])
        text = (
            f"{title}: score after the last epoch in %, mean over {len(before)} seeds that no trial used, and the paired "
            f"difference in points with its 95 % interval. Tuning changes these {len(pairs)} stacks by "
            f"{statistics.fmean(changes):+.1f} points on average ({min(changes):+.1f} to {max(changes):+.1f})."
        )
        block.append((text, cells))
    return block


def _default(row: StackRow, rows: tuple[StackRow, ...]) -> StackRow:
    """Return the row of the stack that was tuned: the same mitigations, with the parameters that a search does not change."""
    names, parameters = _parsed(row.stack)
    alike = [(each, _parsed(each.stack)) for each in rows]
    alike = [(each, found) for each, found in alike if found[0] == names]
    same_values = [each for each, found in alike if found[1].items() <= parameters.items()]
    match [each for each, _ in alike] if len(alike) == 1 else same_values:
        case [default]:
            return default
    sys.exit(f"error: no single stack was tuned to {row.stack}")


def _parsed(stack: str) -> tuple[tuple[str, ...], Parameters]:
    """Return the mitigations of a stack, and their parameters by name."""
    members = [{"name": each} if isinstance(each, str) else each for each in parse_stack(untuned_name(stack))]
    names = tuple(str(each["name"]) for each in members)
    return names, {key: plain_value(value) for each in members for key, value in each.items() if key != "name"}


def _paired_scores(*rows: StackRow) -> list[list[float]]:
    """Return the scores of each row for the seeds that all of them have, in points."""
    scores = [
        {each.seed: 100 * score for each in row.measurements if (score := each.score(RULE)) is not None} for row in rows
    ]
    shared = sorted(set.intersection(*map(set, scores)))
    if not shared:
        sys.exit(f"error: no seed has runs of both {' and '.join(row.stack for row in rows)}")
    return [[each[seed] for seed in shared] for each in scores]


def _interval(change: Summary) -> str:
    ends = "" if change.low is None else f" [{change.low:+.1f}, {change.high:+.1f}]"
    return f"{change.mean:+.1f}{ends}"


def _selected(row: StackRow, default: StackRow) -> str:
    """Return the parameters that the search has changed, with three digits."""
    (_, values), (_, before) = _parsed(row.stack), _parsed(default.stack)
    changed = [f"{key} {_digits(value)}" for key, value in values.items() if before.get(key) != value]
    return ", ".join([*changed, *(f"default {key}" for key in before if key not in values)]) or "defaults"


def _digits(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
