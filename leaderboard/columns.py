"""Columns of the table of a setting: one definition for the page, the terminal, CSV, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from noisybench.errors import UserError, nearest
from noisybench.leaderboard.published import PublishedResult
from noisybench.leaderboard.rounding import fixed
from noisybench.leaderboard.statistics import Summary
from noisybench.leaderboard.table import Setting, StackRow
from noisybench.records.selection import SELECTION_RULES

EMPTY = ("", "–", "local")
"""Cells that say nothing: a column of nothing else is left out of a table."""


@dataclass(frozen=True)
class Column:
    """One column of the table of a setting.

    Attributes:
        title: title of the column.
        name: name of the values in CSV files and on the page.
        meaning: what the values are, in a sentence without its period.
        read: summary over seeds, number or text of a stack; None if it was not measured.
        better: which values are better; empty for columns without an order.
        digits: decimal places of summaries.
        scale: factor of summaries, 100 for percentages.
        spread: whether cells show the standard deviation or interval beside the mean.
        is_text: whether values are text, which stands on the left.
    """

    title: str
    name: str
    meaning: str
    read: Callable[[Setting, StackRow], Summary | str | int | None]
    better: Literal["higher", "lower", ""] = ""
    digits: int = 1
    scale: float = 100.0
    spread: bool = False
    is_text: bool = False

    @property
    def description(self) -> str:
        """Meaning and direction in one line."""
        return f"{self.meaning} ({self.better} is better)" if self.better else self.meaning

    def cell(self, setting: Setting, row: StackRow, intervals: bool = False) -> str:
        """Return the text of a cell.

        Args:
            setting: setting of the stack.
            row: stack.
            intervals: show 95 % intervals in place of standard deviations.
        """
        value = self.read(setting, row)
        if value is None:
            return "–"
        if not isinstance(value, Summary):
            return str(value)
        return format_percent(value, intervals) if self.spread else format_mean(value, self.digits, self.scale)


def format_percent(summary: Summary | None, interval: bool = False) -> str:
    """Return mean and standard deviation in percent, or the mean with its 95 % interval; a dash without a value.

    Example:
        >>> from noisybench.leaderboard.statistics import summarize
        >>> format_percent(summarize([0.8, 0.82]))
        '81.0 ± 1.4'
    """
    if summary is None:
        return "–"
    text = fixed(summary.mean, 1, 100)
    if summary.deviation is None:
        return text
    if interval and summary.low is not None and summary.high is not None:
        return f"{text} [{fixed(summary.low, 1, 100)}, {fixed(summary.high, 1, 100)}]"
    return f"{text} ± {fixed(summary.deviation, 1, 100)}"


def format_mean(summary: Summary | None, digits: int, scale: float = 1.0) -> str:
    """Return the scaled mean; a dash without a value.

    Example:
        >>> from noisybench.leaderboard.statistics import summarize
        >>> format_mean(summarize([0.5, 0.6]), 0, 100)
        '55'
    """
    return fixed(summary.mean, digits, scale) if summary else "–"


def describe_published(results: Sequence[PublishedResult]) -> str:
    """Return published results in one line, for example ``82.5 ± 0.4 best, resnet34``."""
    parts = []
    for result in results:
        spread = f" ± {result.deviation:g}" if result.deviation is not None else ""
        parts.append(f"{result.value:g}{spread} {result.protocol}, {result.architecture}")
    return "; ".join(parts)


VERIFICATION = ("claimed", "re-scored", "re-run", "local")
"""Verification of runs, from the weakest to runs of the user's own store."""


def verification(row: StackRow) -> str:
    """Return the verification of a stack, which is only as trustworthy as the weakest of its runs."""
    statuses = {measurement.status for measurement in row.measurements}
    return next(status for status in VERIFICATION if status in statuses)


RULE_MEANINGS = {
    "last": "Test score of the last epoch",
    "last10": "Mean test score of the last ten epochs",
    "noisy_val": "Test score of the epoch with the best score on noisy validation labels",
    "label_wave": "Test score of the epoch at the first minimum of the changes of training predictions",
    "oracle": "Best test score of all epochs: selection on the test split",
}


def _rule_column(rule: str) -> Column:
    return Column(rule, rule, RULE_MEANINGS[rule], lambda _, row: row.scores[rule], "higher", spread=True)


def _measure_column(title: str, name: str, meaning: str, better: Literal["higher", "lower", ""], **form: Any) -> Column:
    return Column(title, name, meaning, lambda _, row: getattr(row, name), better, **form)


DECIMAL: dict[str, Any] = {"digits": 3, "scale": 1.0}
"""Form of scores that are not shown in percent."""

TABLE: tuple[Column, ...] = (
    Column(
        "rank",
        "rank",
        "1 + the number of significantly better stacks, with those that use privileged information",
        lambda setting, row: setting.ranking.ranks.get(row.stack),
        "lower",
    ),
    Column("stack", "stack", "Stack of mitigations with their parameters", lambda _, row: row.stack, is_text=True),
    *map(_rule_column, SELECTION_RULES),
    _measure_column("oracle gap", "oracle_gap", "Oracle minus last, in percentage points", ""),
    _measure_column(
        "balanced acc.",
        "balanced_accuracy",
        "Mean recall of the classes at the last epoch, in percent",
        "higher",
        spread=True,
    ),
    _measure_column(
        "worst class", "worst_class_recall", "Lowest recall of a class at the last epoch, in percent", "higher"
    ),
    _measure_column(
        "shift acc.",
        "mean_shift_accuracy",
        "Accuracy under distribution shift, mean over the shifted test sets",
        "higher",
        spread=True,
    ),
    _measure_column(
        "noise AUROC", "noise_auroc", "AUROC of the label quality for incorrect labels", "higher", **DECIMAL
    ),
    _measure_column(
        "OOD AUROC", "ood_auroc", "AUROC of the label quality for out-of-distribution images", "higher", **DECIMAL
    ),
    _measure_column(
        "memorized",
        "memorized_fraction",
        "Percentage of mislabeled examples predicted as their incorrect label",
        "lower",
        digits=0,
    ),
    _measure_column(
        "by chance",
        "memorized_chance",
        "Percentage predicted as their incorrect label without memorization",
        "",
        digits=0,
    ),
    _measure_column(
        "ECE", "calibration_error", "Expected calibration error of the test predictions", "lower", **DECIMAL
    ),
    _measure_column("time (s)", "wall_seconds", "Seconds of one run, with auxiliary training", "lower", scale=1.0),
    Column("seeds", "seeds", "Number of runs", lambda _, row: len(row.measurements)),
    Column(
        "privileged info",
        "privileged_info",
        "Privileged information that the stack uses",
        lambda _, row: ", ".join(row.privileged) or "none",
        is_text=True,
    ),
    Column("verified", "verified", "Verification of submitted runs", lambda _, row: verification(row), is_text=True),
    Column(
        "published",
        "published",
        "Results of the literature, with protocol and network",
        lambda _, row: describe_published(row.published),
        is_text=True,
    ),
)
"""All columns in their order."""


def parse_columns(text: str) -> list[Column]:
    """Return the columns of a list of titles or names between commas; none for an empty text.

    Raises:
        UserError: a column is unknown or given twice.

    Example:
        >>> [column.title for column in parse_columns("stack, last, wall_seconds")]
        ['stack', 'last', 'time (s)']
        >>> parse_columns("stack,lats")
        Traceback (most recent call last):
        noisybench.errors.UserError: columns: unknown column `lats`; did you mean `last` or `last10`?
    """
    known = {key: column for column in TABLE for key in (column.name, column.title)}
    columns = list[Column]()
    for word in (part.strip() for part in text.split(",") if text):
        if word not in known:
            raise UserError(f"columns: unknown column `{word}`; {nearest(word, [column.title for column in TABLE])}")
        if known[word] in columns:
            raise UserError(f"columns: expected each column once, but got `{word}` twice")
        columns.append(known[word])
    return columns


def measured_columns(rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the indices of the columns in which some row has a value.

    Example:
        >>> measured_columns([["elr", "0.9", ""], ["gce", "0.8", ""]])
        [0, 1]
    """
    return [index for index in range(len(rows[0]) if rows else 0) if any(row[index] not in EMPTY for row in rows)]


def best_columns(setting: Setting) -> dict[str, list[str]]:
    """Return the names of the columns in which each stack is best, as tables emphasize it.

    Best is the mean as it is shown, so that equal texts are equally emphasized, among stacks without privileged information.
    A column of a single value has no best one, and neither has a column that needs no comparison.
    """
    best: dict[str, list[str]] = {row.stack: [] for row in setting.rows}
    for column in TABLE:
        if not column.better or column.name in ("rank", "oracle"):
            continue
        values = {
            row.stack: float(fixed(value.mean, column.digits, column.scale))
            for row in setting.rows
            if not row.privileged and isinstance(value := column.read(setting, row), Summary)
        }
        if len(set(values.values())) > 1:
            winner = (max if column.better == "higher" else min)(values.values())
            for stack, mean in values.items():
                if mean == winner:
                    best[stack].append(column.name)
    return best
