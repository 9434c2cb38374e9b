"""Stress cards as text, CSV and JSON-like values."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from noisybench.leaderboard.breakdown import Breakdown
from noisybench.leaderboard.columns import format_percent
from noisybench.leaderboard.rounding import fixed, rounded
from noisybench.leaderboard.statistics import Summary
from noisybench.leaderboard.stress import Cost, StressTable
from noisybench.leaderboard.text_tables import markdown_table
from noisybench.utils.cells import plain_cell

NOTE = (
    "Area: mean score over the range of rates. Breakdown: last rate at which the stack is not below cross-entropy at half that "
    "rate, interpolated linearly between measured rates. Cost on clean: points that cross-entropy is above the stack on clean "
    "labels. Worst class: lowest recall of a class at the highest rate. 95 % intervals over seeds, for these label sets."
)
"""How to read a table of stress cards."""

CSV_COLUMNS = (
    "dataset", "budget", "noise", "rule", "stack", "privileged", "seeds", "measure", "rate", "value", "low", "high", "censored",
)  # fmt: skip
"""Columns of the CSV file, which has one line for each value of a card."""


def columns(table: StressTable) -> list[str]:
    """Return the titles of the columns of a table."""
    rates = [f"{100 * rate:.0f} %" for rate in table.rates]
    return ["stack", *rates, "area", "breakdown", "cost on clean", "worst class", "seeds"]


def text_rows(table: StressTable, intervals: bool = False) -> list[list[str]]:
    """Return the cards of a table as rows of text in the order of `columns`.

    Args:
        table: table of cards.
        intervals: show the interval of the score at each rate as well.
    """
    return [
        [
            f"{card.stack} (privileged)" if card.is_privileged else card.stack,
            *(format_percent(score, True) if intervals else _mean(score) for score in card.curve),
            format_percent(card.area, True),
            breakdown_text(card.breakdown),
            cost_text(card.clean_cost),
            format_percent(card.worst_class[-1], True),
            str(card.seeds),
        ]
        for card in table.cards
    ]


def _mean(score: Summary | None) -> str:
    return "–" if score is None else fixed(score.mean, 1, 100)


def breakdown_text(breakdown: Breakdown | None) -> str:
    """Return a breakdown point in percent with its interval; ends beyond the measured rates have a sign.

    Example:
        >>> breakdown_text(Breakdown(0.41, "inside", 0.35, 0.6, 0.6)), breakdown_text(Breakdown(0.6, "above", 0.6, 0.6, 0.6))
        ('41 [35, >60]', '>60')
        >>> breakdown_text(Breakdown(0.0, "below", None, 0.0, 0.6))
        'none [none, 0]'
    """
    if breakdown is None:
        return "–"
    limit = f">{100 * breakdown.largest:.0f}"

    def end(rate: float | None) -> str:
        return "none" if rate is None else limit if rate >= breakdown.largest else f"{100 * rate:.0f}"

    text = {"inside": f"{100 * breakdown.rate:.0f}", "above": limit, "below": "none"}[breakdown.state]
    interval = f"[{end(breakdown.low)}, {end(breakdown.high)}]"
    return text if breakdown.high is None or interval == f"[{text}, {text}]" else f"{text} {interval}"


def cost_text(cost: Cost | None) -> str:
    """Return the cost of a stack on clean data in points, with its interval.

    Example:
        >>> cost_text(Cost(0.012, 0.001, 0.023)), cost_text(Cost(-0.01, None, None))
        ('+1.2 [+0.1, +2.3]', '-1.0')
    """
    if cost is None:
        return "–"
    text = f"{100 * cost.difference:+.1f}"
    return text if cost.low is None or cost.high is None else f"{text} [{100 * cost.low:+.1f}, {100 * cost.high:+.1f}]"


def to_markdown(tables: Sequence[StressTable]) -> str:
    """Return stress cards as Markdown tables."""
    parts = []
    for table in tables:
        lines = [f"### {table.title}, by `{table.rule}`", ""]
        lines += [*markdown_table(columns(table), text_rows(table)), "", NOTE]
        parts.append("\n".join([*lines, *(f"\nNot shown: {reason}." for reason in table.left_out)]))
    return "\n\n".join(parts) + "\n"


def to_csv(tables: Sequence[StressTable]) -> str:
    """Return stress cards as CSV with full precision, one line for each value."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for table in tables:
        for card in table.cards:
            start = [
                plain_cell(table.dataset), table.budget, plain_cell(table.noise), table.rule, plain_cell(card.stack),
                str(card.is_privileged).lower(), card.seeds,
            ]  # fmt: skip
            for measure, summaries in (("score", card.curve), ("worst_class_recall", card.worst_class)):
                for rate, summary in zip(table.rates, summaries, strict=True):
                    if summary:
                        writer.writerow([*start, measure, rate, summary.mean, summary.low, summary.high, ""])
            if card.area:
                writer.writerow([*start, "area", "", card.area.mean, card.area.low, card.area.high, ""])
            if (point := card.breakdown) is not None:
                state = "" if point.state == "inside" else point.state
                writer.writerow([*start, "breakdown", "", point.rate, point.low, point.high, state])
            if (cost := card.clean_cost) is not None:
                writer.writerow([*start, "cost_on_clean", 0, cost.difference, cost.low, cost.high, ""])
    return text.getvalue()


def payload(table: StressTable) -> dict[str, Any]:
    """Return a table as JSON-like values; a summary is mean, standard deviation, low and high end."""
    return {
        "title": table.title,
        "dataset": table.dataset,
        "budget": table.budget,
        "noise": table.noise,
        "rule": table.rule,
        "rates": [rounded(rate) for rate in table.rates],
        "cards": [
            {
                "stack": card.stack,
                "privileged": card.is_privileged,
                "seeds": card.seeds,
                "curve": [_summary(score) for score in card.curve],
                "area": _summary(card.area),
                "breakdown": vars(card.breakdown) if card.breakdown else None,
                "cost_on_clean": vars(card.clean_cost) if card.clean_cost else None,
                "worst_class": [_summary(score) for score in card.worst_class],
            }
            for card in table.cards
        ],
        "text": {"columns": columns(table), "rows": text_rows(table)},
        "left_out": list(table.left_out),
    }


def _summary(summary: Summary | None) -> list[float | None] | None:
    if summary is None:
        return None
    values = (summary.mean, summary.deviation, summary.low, summary.high)
    return [None if value is None else rounded(value) for value in values]
