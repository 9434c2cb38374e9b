"""Which stacks helped in measured cells that are like a given set of labels."""

from __future__ import annotations

import math
from collections.abc import Iterable

from noisybench.leaderboard.table import Cell, build_cells, percent
from noisybench.records.schema import RunRecord

CELLS = 3
"""How many cells are shown."""


def distance(cell: Cell, rate: float, examples: int, classes: int) -> float:
    """How unlike a cell is: by its noise rate above all, then by the number of examples and classes."""
    manifest = cell.example.manifest
    sizes, names = manifest["dataset"]["sizes"], manifest["dataset"]["classes"]
    apart: float = abs(manifest["actual_noise_rate"] - rate)
    return apart + 0.05 * abs(math.log(sizes["train"] / examples)) + 0.05 * abs(math.log(len(names) / classes))


def helped(records: Iterable[RunRecord], rate: float, examples: int, classes: int) -> list[tuple[str, list[str]]]:
    """The most similar measured cells, and their stacks that need no privileged knowledge, best first.

    Args:
        records: finished runs.
        rate: estimated share of wrong labels.
        examples: how many there are.
        classes: how many.

    Returns:
        For each cell a heading, and a line for each stack of the first rank groups beside cross-entropy.
    """
    cells = [
        cell
        for cell in build_cells(records)
        if cell.example.metric == "accuracy"
        and not cell.example.task  # plain classification, not transfer
        and cell.example.manifest["actual_noise_rate"] is not None
        and len(cell.rows) > 1
    ]
    cells.sort(key=lambda cell: (distance(cell, rate, examples, classes), cell.title, cell.budget))
    found = []
    for cell in cells[:CELLS]:
        manifest, budget = cell.example.manifest, cell.example.spec["budget"]
        heading = (
            f"{cell.title} ({manifest['actual_noise_rate']:.0%} wrong, {manifest['dataset']['sizes']['train']} examples of "
            f"{len(manifest['dataset']['classes'])} classes, {budget['network']}, {budget['epochs']} epochs)"
        )
        lines: list[str] = []
        for row in cell.rows:
            if row.privileged or (len(lines) >= 4 and row.stack != "cross_entropy"):
                continue
            rank = cell.ranking.ranks.get(row.stack)
            told = f", rank {rank} of {len(cell.rows)}" if rank is not None else ""
            lines.append(f"{row.stack}: {percent(row.rules['last'])} at the end{told}, {len(row.records)} seeds")
        found.append((heading, lines))
    return found
