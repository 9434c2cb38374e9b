"""The leaderboard as one self-contained HTML page: no network, no other file."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from noisybench.leaderboard.statistics import Summary
from noisybench.leaderboard.table import Cell, Row, describe_published, footnote

from noisybench.records import SELECTION_RULES

CURVES = ("test_score", "noisy_val_score", "memorised", "detection_auroc")


def to_html(cells: Sequence[Cell]) -> str:
    """The page for all cells."""
    template = (importlib.resources.files("noisybench.leaderboard") / "static" / "page.html").read_text(
        encoding="utf-8"
    )
    # Inside a script element only "</" could end it; JSON may write the slash escaped.
    data = json.dumps([_cell(cell) for cell in cells], allow_nan=False).replace("</", "<\\/")
    return template.replace("__LEADERBOARD_DATA__", data)


def _cell(cell: Cell) -> dict[str, Any]:
    budget = cell.example.spec["budget"]
    manifest = cell.example.manifest
    return {
        "title": cell.title,
        "label_set": cell.label_set,
        "budget": {"hash": cell.budget, **budget},
        "convention": manifest["noise"]["convention"],
        "realised_rate": manifest["realised_rate"],
        "footnote": footnote(cell),
        "warnings": list(cell.warnings),
        "rule": cell.rule,
        "metric": cell.example.metric,
        "rows": [_row(row, cell.ranking.ranks.get(row.stack)) for row in cell.rows],
    }


def _row(row: Row, rank: int | None) -> dict[str, Any]:
    return {
        "rank": rank,
        "stack": row.stack,
        "knowledge": list(row.knowledge),
        "seeds": len(row.records),
        **{rule: _summary(row.rules[rule]) for rule in SELECTION_RULES},
        "gap": _summary(row.gap),
        "detection": _summary(row.detection),
        "outsiders": _summary(row.outsiders),
        "shifted": _summary(row.shifted),
        "memorised": _summary(row.memorised),
        "calibration_error": _summary(row.calibration_error),
        "seconds": _summary(row.seconds),
        "published": describe_published(row.published),
        "sources": sorted({each.source for each in row.published}),
        "curves": {name: _curve(row, name) for name in CURVES},
    }


def _summary(summary: Summary | None) -> dict[str, float | None] | None:
    return (
        None
        if summary is None
        else {"mean": summary.mean, "std": summary.deviation, "low": summary.low, "high": summary.high}
    )


def _curve(row: Row, name: str) -> list[float | None]:
    """Mean over seeds at each epoch; None where a seed has no value."""
    runs = [[getattr(each, name) for each in record.rows if each.stage == "train"] for record in row.records]
    length = min(len(run) for run in runs)
    points = [[run[epoch] for run in runs] for epoch in range(length)]
    return [None if None in point else round(float(np.mean(point)), 5) for point in points]
