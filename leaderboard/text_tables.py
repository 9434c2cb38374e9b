"""Leaderboard tables as text: terminal cells, CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from noisybench.leaderboard.published import PublishedResult
from noisybench.leaderboard.setting_description import distinct_titles
from noisybench.leaderboard.statistics import Ranking, Summary
from noisybench.leaderboard.table import DETECTOR_METRICS, Setting, detector_values
from noisybench.leaderboard.verdict_text import verdict_paragraphs
from noisybench.records.codes import code_digest
from noisybench.records.selection import RULE_NEEDS, SELECTION_RULES
from noisybench.utils.files import plain_cell

COLUMNS = (
    "rank", "stack", "last", "last10", "noisy_val", "label_wave", "oracle", "oracle gap", "balanced acc.", "worst class",
    "shift acc.", "noise AUROC", "OOD AUROC", "memorized", "by chance", "ECE", "time (s)", "seeds", "privileged info",
    "published",
)  # fmt: skip
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

CSV_MEASURES = (
    "oracle_gap", "balanced_accuracy", "worst_class_recall", "mean_shift_accuracy", "noise_auroc", "ood_auroc",
    "memorized_fraction", "memorized_chance", "calibration_error", "wall_seconds",
)  # fmt: skip
CSV_COLUMNS = (
    "dataset", "noise", "label_set", "budget", "version", "rank", "stack", "seeds",
    *(f"{rule}_{part}" for rule in SELECTION_RULES for part in ("mean", "std", "low", "high")),
    *CSV_MEASURES, "privileged_info", "published", "code", "joined", "other_code", "warnings",
)  # fmt: skip
"""Columns of the CSV file."""

TEST_NAMES = {
    "moderated_t": "moderated t-tests (variance of each pair shrunk toward the pool)",
    "anova": "two-way ANOVA (stack + seed)",
    "paired_t": "paired t-tests",
}


def format_percent(summary: Summary | None, interval: bool = False) -> str:
    """Return mean and standard deviation in percent, or the mean with its 95 % interval; a dash without a value.

    Example:
        >>> from noisybench.leaderboard.statistics import summarize
        >>> format_percent(summarize([0.8, 0.82]))
        '81.0 ± 1.4'
    """
    if summary is None:
        return "–"
    text = f"{100 * summary.mean:.1f}"
    if summary.deviation is None:
        return text
    if interval and summary.low is not None and summary.high is not None:
        return f"{text} [{100 * summary.low:.1f}, {100 * summary.high:.1f}]"
    return f"{text} ± {100 * summary.deviation:.1f}"


def format_mean(summary: Summary | None, digits: int, scale: float = 1.0) -> str:
    """Return the scaled mean; a dash without a value.

    Example:
        >>> from noisybench.leaderboard.statistics import summarize
        >>> format_mean(summarize([0.5, 0.6]), 0, 100)
        '55'
    """
    return f"{scale * summary.mean:.{digits}f}" if summary else "–"


def describe_published(results: Sequence[PublishedResult]) -> str:
    """Return published results in one line, for example ``82.5 ± 0.4 best, resnet34``."""
    parts = []
    for result in results:
        spread = f" ± {result.deviation:g}" if result.deviation is not None else ""
        parts.append(f"{result.value:g}{spread} {result.protocol}, {result.architecture}")
    return "; ".join(parts)


def text_rows(setting: Setting, intervals: bool = False) -> list[list[str]]:
    """Return the rows of a setting as text in the order of `COLUMNS`.

    Args:
        setting: setting with its stacks.
        intervals: show 95 % intervals in place of standard deviations.
    """
    return [
        [
            str(setting.ranking.ranks.get(row.stack, "–")),
            row.stack,
            *(format_percent(row.scores[rule], intervals) for rule in SELECTION_RULES),
            format_mean(row.oracle_gap, 1, 100),
            format_percent(row.balanced_accuracy, intervals),
            format_mean(row.worst_class_recall, 1, 100),
            format_percent(row.mean_shift_accuracy, intervals),
            format_mean(row.noise_auroc, 3),
            format_mean(row.ood_auroc, 3),
            format_mean(row.memorized_fraction, 0, 100),
            format_mean(row.memorized_chance, 0, 100),
            format_mean(row.calibration_error, 3),
            format_mean(row.wall_seconds, 1),
            str(len(row.measurements)),
            ", ".join(row.privileged) or "none",
            describe_published(row.published),
        ]
        for row in setting.rows
    ]


def detector_rows(setting: Setting) -> list[list[str]]:
    """Return the detectors of a setting's stacks as text in the order of `DETECTOR_COLUMNS`."""
    rows = []
    for row in setting.rows:
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
        f"Rank = 1 + number of significantly better stacks by `{setting.rule}`: {TEST_NAMES[setting.test]}, Holm-corrected over "
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
        'Minimum detectable difference at 80 % power: 3.2 points.'
        >>> describe_detectable(ranking, 0.99)
        'Minimum detectable difference at 80 % power: 3.2 points, more than the 1.0 that are left above the best score.'
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
        for row in setting.rows:
            scores: list[float | None] = []
            for rule in SELECTION_RULES:
                summary = row.scores[rule]
                scores += [summary.mean, summary.deviation, summary.low, summary.high] if summary else [None] * 4
            measures: list[Summary | None] = [getattr(row, name) for name in CSV_MEASURES]
            versions = sorted({measurement.version for measurement in row.measurements})
            writer.writerow([
                # Names come from configurations, and a spreadsheet must not run one as a formula.
                plain_cell(description.dataset), plain_cell(description.noise), description.label_set, description.budget,
                ", ".join(versions), setting.ranking.ranks.get(row.stack, ""), plain_cell(row.stack), len(row.measurements),
                *scores, *(summary.mean if summary else None for summary in measures),
                plain_cell(", ".join(row.privileged)), describe_published(row.published), code_digest(row.code),
                "; ".join(setting.joined), "; ".join(setting.other_code), plain_cell("; ".join(row.warnings)),
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


def _titles(settings: Sequence[Setting]) -> list[str]:
    return distinct_titles([setting.description for setting in settings])


def to_markdown(settings: Sequence[Setting], intervals: bool = False) -> str:
    """Return all settings as Markdown tables, followed by the verdicts over them.

    Args:
        settings: settings with their stacks.
        intervals: show 95 % intervals in place of standard deviations.
    """
    parts = []
    for title, setting in zip(_titles(settings), settings, strict=True):
        lines = [f"### {title}", "", *markdown_table(COLUMNS, text_rows(setting, intervals))]
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


LATEX_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--", "·": r"$\cdot$",
}  # fmt: skip


def latex_text(text: str) -> str:
    r"""Return text with LaTeX's special characters escaped, and names between backticks as code.

    Example:
        >>> latex_text("noisy_val 95 %, by `last`")
        'noisy\\_val 95 \\%, by \\texttt{last}'
    """
    # One pass over the characters: successive replacements would escape the braces of earlier ones again.
    escaped = "".join(LATEX_SPECIAL.get(character, character) for character in text)
    return re.sub("`([^`]+)`", r"\\texttt{\1}", escaped)


def to_latex(settings: Sequence[Setting], intervals: bool = False) -> str:
    r"""Return all settings as LaTeX tables for `\usepackage{booktabs}`.

    Args:
        settings: settings with their stacks.
        intervals: show 95 % intervals in place of standard deviations.
    """
    columns = [index for index, name in enumerate(COLUMNS) if name != "published"]
    parts = []
    for title, setting in zip(_titles(settings), settings, strict=True):
        rows = [COLUMNS, *text_rows(setting, intervals)]
        header, *body = [" & ".join(latex_text(row[index]) for index in columns) + r" \\" for row in rows]
        notes = "".join(f" Note: {note}." for note in setting.notes)
        caption = f"{latex_text(title)}. {latex_text(footnote(setting) + notes)}"
        parts.append(
            "\n".join([
                r"\begin{table}", r"\centering", rf"\caption{{{caption}}}",
                r"\begin{tabular}{rl" + "r" * (len(columns) - 3) + "l}", r"\toprule", header, r"\midrule",
                *body, r"\bottomrule", r"\end{tabular}", r"\end{table}",
            ])
        )  # fmt: skip
    return "\n\n".join(parts) + "\n"
