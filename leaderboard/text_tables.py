"""Leaderboard tables as text: terminal cells, CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence

from noisybench.leaderboard.columns import TABLE, Column, best_columns, measured_columns
from noisybench.leaderboard.setting_description import distinct_titles
from noisybench.leaderboard.statistics import Ranking, Summary
from noisybench.leaderboard.table import DETECTOR_METRICS, Setting, StackRow, detector_values
from noisybench.leaderboard.verdict_text import verdict_paragraphs
from noisybench.records.codes import code_digest
from noisybench.records.selection import RULE_NEEDS, SELECTION_RULES
from noisybench.utils.cells import plain_cell

COLUMNS = tuple(column.title for column in TABLE)
"""Titles of the columns of a table."""

DETECTOR_COLUMNS = (
    "stack", "detector", "noise AUROC", "ID noise AUROC", "OOD AUROC", "AP", "precision", "recall", "balanced acc.",
    "OOD balanced acc.", "flagged", "missed at true rate",
)  # fmt: skip
"""Titles of the columns of a table of detectors."""

DETECTOR_NOTE = (
    "Detectors: mean over the later half of their epochs and over seeds. AUROC for all incorrect labels, for incorrect labels of "
    "in-distribution (ID) images, and for out-of-distribution (OOD) images, each against correct labels; average precision (AP) "
    "of the scores; precision, recall and balanced accuracy of the flags; fraction of the incorrect labels that are missed if as "
    "many labels are flagged as are incorrect."
)


def csv_names(column: Column) -> list[str]:
    """Return the names of the values of a column in a CSV file: four for a score, else one.

    Example:
        >>> csv_names(TABLE[2])
        ['last_mean', 'last_std', 'last_low', 'last_high']
    """
    if column.name in SELECTION_RULES:
        return [f"{column.name}_{part}" for part in ("mean", "std", "low", "high")]
    return [column.name]


def _csv_values(column: Column, setting: Setting, row: StackRow) -> list[float | str | None]:
    """Return the values of a stack with full precision, see `csv_names`."""
    value = column.read(setting, row)
    if column.name in SELECTION_RULES:
        return [value.mean, value.deviation, value.low, value.high] if isinstance(value, Summary) else [None] * 4
    # Names come from configurations, and a spreadsheet must not run one as a formula.
    return [value.mean if isinstance(value, Summary) else plain_cell(value) if isinstance(value, str) else value]


CSV_COLUMNS = (
    "dataset", "noise", "label_set", "budget", "version", *(name for column in TABLE for name in csv_names(column)),
    "code", "joined", "other_code", "warnings",
)  # fmt: skip
"""Columns of the CSV file."""

TEST_NAMES = {
    "moderated_t": "moderated t-tests (pooled variance, unless the spreads of a pair contradict it)",
    "anova": "two-way ANOVA (stack + seed)",
    "paired_t": "paired t-tests",
}


def published_line(setting: Setting, names: Mapping[str, str]) -> str:
    """Return the published results of the stacks that a table shows, in one line; empty if there are none.

    Args:
        setting: setting with its stacks.
        names: names of the stacks to show.
    """
    texts = []
    for row in setting.shown_rows:
        values = [result.value for result in row.published]
        if values:
            spread = f"{min(values):g}" if min(values) == max(values) else f"{min(values):g} to {max(values):g}"
            texts.append(f"{names[row.stack]} {spread}")
    if not texts:
        return ""
    return f"Published, in any protocol and network: {', '.join(texts)} (`noisybench leaderboard reproduction` lists them)."


def text_rows(setting: Setting, intervals: bool = False) -> list[list[str]]:
    """Return the rows of a setting as text in the order of `COLUMNS`.

    Args:
        setting: setting with its stacks.
        intervals: show 95 % intervals in place of standard deviations.
    """
    return [[column.cell(setting, row, intervals) for column in TABLE] for row in setting.shown_rows]


def detector_rows(setting: Setting) -> list[list[str]]:
    """Return the detectors of a setting's stacks as text in the order of `DETECTOR_COLUMNS`."""
    rows = []
    for row in setting.shown_rows:
        for detector, values in detector_values(row).items():
            cells = ["–" if value is None else f"{value:.3f}" for value in (values[name] for name in DETECTOR_METRICS)]
            rows.append([row.stack, detector, *cells])
    return rows


def footnote(setting: Setting) -> str:
    """Return how to read the ranks of a setting: the test, its seeds and its power."""
    ranking = setting.ranking
    if not ranking.ranks:
        if all(row.scores[setting.rule] is None for row in setting.rows):
            return f"No ranks: no run has a score by `{setting.rule}`; {RULE_NEEDS[setting.rule]}."
        return "No ranks: at least two stacks with two seeds in common are needed."
    best = max(summary.mean for row in setting.rows if (summary := row.scores[setting.rule]) is not None)
    return (
        f"Rank = 1 + number of significantly better stacks by `{setting.rule}`: {TEST_NAMES[setting.test]}, corrected over "
        f"{_pairs(len(ranking.p_values))} at 5 %, {_shared_seeds(ranking)} seeds. {describe_detectable(ranking, best)}"
    )


def describe_detectable(ranking: Ranking, best: float) -> str:
    """Return a sentence on the minimum detectable difference of scores that end at 1; empty if no test was possible.

    Args:
        ranking: ranks of a setting.
        best: best mean score, above which only 1 - best is left.

    Example:
        >>> from noisybench.leaderboard.statistics import rank
        >>> ranking = rank({"a": {0: 0.90, 1: 0.91, 2: 0.92}, "b": {0: 0.70, 1: 0.72, 2: 0.71}})
        >>> describe_detectable(ranking, 0.91)
        'Minimum detectable difference at 80 % power: 3.3 points.'
        >>> describe_detectable(ranking, 0.99)
        'Minimum detectable difference at 80 % power: 3.3 points, more than the 1.0 that are left above the best score.'
    """
    difference = ranking.minimum_detectable_difference
    if difference is None:
        return ""
    left = max(1 - best, ranking.resolution)
    # Two scores differ by one at most.
    limit = f"{_points(min(difference, 1.0))} points"
    if difference > left:
        limit += f", more than the {_points(left)} that are left above the best score"
    return f"Minimum detectable difference at 80 % power: {limit}."


def _pairs(count: int) -> str:
    return "1 pair" if count == 1 else f"{count} pairs"


def _points(fraction: float) -> str:
    """Return a fraction in percentage points, with more digits where one would show zero."""
    points = 100 * fraction
    return f"{points:.1f}" if points >= 0.1 else f"{points:.2g}"


def _shared_seeds(ranking: Ranking) -> str:
    """Return how many seeds pairs share, for example ``3`` or ``2 to 3``."""
    if ranking.model is None:
        return "0"
    fewest, most = int(ranking.model.seeds.min()), int(ranking.model.seeds.max())
    return str(most) if fewest == most else f"{fewest} to {most}"


def code_text(setting: Setting) -> str:
    """Return the code of a table, without that of the mitigations, and the versions of noisybench, in a few words."""
    versions = sorted({measurement.version for row in setting.rows for measurement in row.measurements})
    digest = code_digest(setting.code)
    return f"code {digest or 'not recorded'} (version {', '.join(versions)})"


def to_csv(settings: Sequence[Setting]) -> str:
    """Return all settings as one CSV text with full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for setting in settings:
        description = setting.description
        for row in setting.shown_rows:
            versions = sorted({measurement.version for measurement in row.measurements})
            writer.writerow([
                plain_cell(description.dataset), plain_cell(description.noise), description.label_set, description.budget,
                plain_cell(", ".join(versions)), *(value for column in TABLE for value in _csv_values(column, setting, row)),
                code_digest(row.code), "; ".join(setting.joined), plain_cell("; ".join(setting.other_code)),
                plain_cell("; ".join(row.warnings)),
            ])  # fmt: skip
    return text.getvalue()


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table.

    Example:
        >>> markdown_table(["a"], [["1|2"]])
        ['| a |', '| --- |', '| 1\\\\|2 |']
    """
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    # Names of stacks may hold the character that separates cells.
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


def _markdown_cell(text: str, is_best: bool) -> str:
    return f"**{text}**" if is_best else text


def _titles(settings: Sequence[Setting]) -> list[str]:
    return distinct_titles([setting.description for setting in settings])


def to_markdown(settings: Sequence[Setting], intervals: bool = False, columns: Sequence[Column] = ()) -> str:
    """Return all settings as Markdown tables with the best values in bold, followed by the verdicts over them.

    Args:
        settings: settings with their stacks.
        intervals: show 95 % intervals in place of standard deviations.
        columns: columns to show; by default all in which some stack has a value.
    """
    parts = []
    for title, setting in zip(_titles(settings), settings, strict=True):
        shown, rows = _shown_cells(setting, intervals, columns or TABLE, _markdown_cell)
        lines = [f"### {title}", "", *markdown_table([column.title for column in shown], rows)]
        lines += ["", footnote(setting), *(f"Note: {note}." for note in (*setting.notes, *setting.warnings)), ""]
        detectors = detector_rows(setting)
        if detectors:
            lines += [*markdown_table(DETECTOR_COLUMNS, detectors), "", DETECTOR_NOTE, ""]
        description = setting.description
        lines += [f"Label set `{description.label_set[:16]}`, budget `{description.budget}`, {code_text(setting)}."]
        parts.append("\n".join(lines))
    for heading, sentences in verdict_paragraphs(settings):
        parts.append("\n".join([f"### {heading}", "", *(f"- {sentence}" for sentence in sentences)]))
    return "\n\n".join(parts) + "\n"


def _shown_cells(
    setting: Setting, intervals: bool, columns: Sequence[Column], render: Callable[[str, bool], str]
) -> tuple[list[Column], list[list[str]]]:
    """Return the columns in which some stack has a value, and their cells; `render` also gets whether a cell is a best one."""
    rows, best = text_rows(setting, intervals), best_columns(setting)
    indices = [index for index in map(TABLE.index, columns) if index in measured_columns(rows)]
    cells = [
        [render(cells[index], TABLE[index].name in best[row.stack]) for index in indices]
        for row, cells in zip(setting.shown_rows, rows, strict=True)
    ]
    return [TABLE[index] for index in indices], cells


LATEX_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--", "·": r"$\cdot$", "−": "$-$",
    "×": r"$\times$", "≤": r"$\leq$", "σ": r"$\sigma$", "▾": r"$\downarrow$", "⚠": "!", "<": r"$<$", ">": r"$>$",
}  # fmt: skip
"""What LaTeX makes of characters that have a meaning there, or that its standard fonts lack."""


def latex_text(text: str) -> str:
    r"""Return text with LaTeX's special characters escaped, and names between backticks as code.

    Example:
        >>> latex_text("noisy_val 95 %, by `last`")
        'noisy\\_val 95 \\%, by \\texttt{last}'
    """
    # One pass over the characters: successive replacements would escape the braces of earlier ones again.
    escaped = "".join(LATEX_SPECIAL.get(character, character) for character in text)
    return re.sub("`([^`]+)`", r"\\texttt{\1}", escaped)


LATEX_COLUMNS = ("rank", "stack", "last", "last10", "noisy_val", "oracle", "time (s)", "seeds", "privileged info")
"""Titles of the columns of a LaTeX table that fit on a page."""


def to_latex(settings: Sequence[Setting], intervals: bool = False, columns: Sequence[Column] = ()) -> str:
    r"""Return all settings as LaTeX tables for `\usepackage{booktabs}`, with the best values in bold.

    Args:
        settings: settings with their stacks.
        intervals: show 95 % intervals in place of standard deviations.
        columns: columns to show; by default those of `LATEX_COLUMNS`.
    """
    chosen = columns or [column for column in TABLE if column.title in LATEX_COLUMNS]
    parts = []
    for title, setting in zip(_titles(settings), settings, strict=True):
        shown, rows = _shown_cells(setting, intervals, chosen, _latex_cell)
        notes = "".join(f" Note: {note}." for note in setting.notes)
        titles = [_latex_cell(column.title, False) for column in shown]
        lines = [" & ".join(cells) + r" \\" for cells in (titles, *rows)]
        parts.append(
            "\n".join([
                r"\begin{table}", r"\centering", rf"\caption{{{latex_text(title)}. {latex_text(footnote(setting) + notes)}}}",
                rf"\begin{{tabular}}{{{''.join('l' if column.is_text else 'r' for column in shown)}}}", r"\toprule",
                lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}", r"\end{table}",
            ])
        )  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _latex_cell(text: str, is_best: bool) -> str:
    escaped = latex_text(text)
    return rf"\textbf{{{escaped}}}" if is_best else escaped
