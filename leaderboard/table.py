"""Leaderboards: one table per cell, a pure function of recorded runs."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from noisybench.leaderboard.published import Published, published
from noisybench.leaderboard.statistics import Ranking, Summary, Test, rank, summarise
from noisybench.records.schema import RunRecord
from noisybench.records.selection import SELECTION_RULES, select
from noisybench.utils.files import plain_cell


@dataclass(frozen=True)
class Row:
    """One stack in one cell. Accuracies and shares in [0, 1].

    Attributes:
        stack: as people write it.
        knowledge: privileged facts that it was given.
        scores: by selection rule, what it takes from each of `records`.
        rules: by selection rule.
        gap: oracle minus last: what choosing the epoch on the test split would have pretended.
        detection: AUROC of the belief.
        outsiders: AUROC of the belief for images of none of the classes against rightly labelled ones.
        shifted: accuracy on test sets of shifted distribution at the end, mean over the sets.
        memorised: share of wrong labels that the final network repeats.
        calibration_error: of the test predictions.
        seconds: wall time of one run.
        records: its runs.
        published: values from the literature for the same data and noise.
    """

    stack: str
    privileged: tuple[str, ...]
    scores: dict[str, list[float | None]]
    rules: dict[str, Summary | None]
    gap: Summary | None
    detection: Summary | None
    outsiders: Summary | None
    shifted: Summary | None
    memorized_fraction: Summary | None
    calibration_error: Summary | None
    seconds: Summary | None
    records: tuple[RunRecord, ...]
    published: tuple[Published, ...]


@dataclass(frozen=True)
class Cell:
    """All stacks on one label set under one budget, best first.

    Attributes:
        title: dataset and noise.
        label_set: SHA-256.
        budget: hash of task and budget.
        rows: the stacks.
        ranking: what the seeds can show, by the rule `rule`.
        rule: selection rule by which it is sorted and ranked.
        test: how pairs were compared.
        warnings: what a reader should know: other versions, other devices, missing seeds.
    """

    title: str
    label_set: str
    budget: str
    rows: tuple[Row, ...]
    ranking: Ranking
    rule: str
    test: Test
    warnings: tuple[str, ...]

    @property
    def example(self) -> RunRecord:
        """Any run of the cell; they share data, labels and budget."""
        return self.rows[0].records[0]


def build_cells(records: Iterable[RunRecord], rule: str = "last", test: Test = "blocks") -> list[Cell]:
    """Group runs into cells; runs on other label sets or budgets never share a table.

    Args:
        records: finished runs.
        rule: sorts and ranks.
        test: as in `statistics.rank`.
    """
    groups: dict[tuple[str, str], list[RunRecord]] = {}
    for record in records:
        groups.setdefault((record.label_set, record.budget), []).append(record)
    cells = [_cell(group, rule, test) for group in groups.values()]
    return sorted(cells, key=lambda cell: (cell.title, cell.budget, cell.label_set))


def _cell(records: list[RunRecord], rule: str, test: Test) -> Cell:
    by_stack: dict[str, dict[int, RunRecord]] = {}
    for record in records:
        by_stack.setdefault(record.stack, {})[record.seed] = record
    rows = [_row(stack, list(runs.values())) for stack, runs in by_stack.items()]

    def key(row: Row) -> tuple[bool, float, str]:
        summary = row.rules[rule]
        return (summary is None, -summary.mean if summary else 0.0, row.stack)

    rows.sort(key=key)
    first = records[0]
    ranking = rank_rows(rows, rule, test)
    return Cell(
        " · ".join(each for each in (first.dataset, first.noise, first.task) if each),
        first.label_set,
        first.budget,
        tuple(rows),
        ranking,
        rule,
        test,
        _warnings(rows, ranking),
    )


def seed_values(rows: Sequence[Row], rule: str) -> dict[str, dict[int, float]]:
    """By stack and seed, what a selection rule takes from each run."""
    return {
        row.stack: {
            each.seed: value for each, value in zip(row.records, row.scores[rule], strict=True) if value is not None
        }
        for row in rows
    }


def rank_rows(rows: Sequence[Row], rule: str, test: Test) -> Ranking:
    """What the seeds of a cell's rows can show by a selection rule."""
    first = rows[0].records[0]
    resolution = 1 / first.manifest["dataset"]["sizes"]["test"] if first.metric == "accuracy" else 1e-4
    return rank(seed_values(rows, rule), test, resolution)


def _row(stack: str, records: list[RunRecord]) -> Row:
    records = sorted(records, key=lambda each: each.seed)

    def over_runs(measure: Callable[[RunRecord], float | None]) -> Summary | None:
        return summarise([value for each in records if (value := measure(each)) is not None])

    scores = {rule: [select(each, rule) for each in records] for rule in SELECTION_RULES}
    gaps = zip(scores["oracle"], scores["last"], strict=True)
    return Row(
        stack=stack,
        privileged=tuple(records[0].privileged),
        scores=scores,
        rules={rule: summarise([value for value in found if value is not None]) for rule, found in scores.items()},
        gap=summarise([best - last for best, last in gaps if best is not None and last is not None]),
        detection=over_runs(lambda each: each.detection.auroc),
        outsiders=over_runs(lambda each: each.detection.ood_auroc),
        shifted=over_runs(lambda each: each.rows[-1].diagnostics.get("mean_shift_accuracy")),
        memorized_fraction=over_runs(lambda each: each.rows[-1].memorized_fraction),
        calibration_error=over_runs(lambda each: each.calibration_error),
        seconds=over_runs(lambda each: each.cost.wall_seconds),
        records=tuple(records),
        published=tuple(published(records[0])),
    )


def _warnings(rows: Sequence[Row], ranking: Ranking) -> tuple[str, ...]:
    found = []
    for key in ("device", "torch", "noisybench"):
        seen = sorted({each.environment.get(key, "?") for row in rows for each in row.records})
        if len(seen) > 1:
            found.append(f"runs differ in {key}: {', '.join(seen)}")
    if ranking.untested and len(rows) > 1:
        found.append(f"not ranked, fewer than two seeds in common: {', '.join(ranking.untested)}")
    noted = {
        row.stack: len([each for each in row.records if any(epoch.warnings for epoch in each.rows)]) for row in rows
    }
    found += [
        f"{stack}: {count} of its runs have notes, such as a detector that fell back or a class that vanished (record.json)"
        for stack, count in noted.items()
        if count
    ]
    seeds = {row.stack: {each.seed for each in row.records} for row in rows}
    every = set().union(*seeds.values())
    short = [f"{stack} lacks {', '.join(map(str, sorted(every - has)))}" for stack, has in seeds.items() if every - has]
    if short:
        found.append(f"missing seeds: {'; '.join(short)}")
    return tuple(found)


HEADER = (
    "rank", "stack", "last", "last10", "noisy_val", "oracle", "gap", "shifted", "detection", "outsiders", "memorized_fraction",
    "ECE", "seconds", "seeds", "privileged", "published",
)  # fmt: skip


def percent(summary: Summary | None, interval: bool = False) -> str:
    """``88.2 ± 0.7`` (standard deviation) in percent, or with the 95 % interval; a dash where there is nothing."""
    if summary is None:
        return "–"
    text = f"{100 * summary.mean:.1f}"
    if summary.deviation is None:
        return text
    if interval and summary.low is not None and summary.high is not None:
        return f"{text} [{100 * summary.low:.1f}, {100 * summary.high:.1f}]"
    return f"{text} ± {100 * summary.deviation:.1f}"


def describe_published(values: Sequence[Published]) -> str:
    """``82.5 ± 0.4 best resnet34`` for each value, in a line."""
    parts = []
    for each in values:
        spread = f" ± {each.deviation:g}" if each.deviation is not None else ""
        parts.append(f"{each.value:g}{spread} {each.protocol}, {each.architecture}")
    return "; ".join(parts)


def text_rows(cell: Cell, intervals: bool = False) -> list[list[str]]:
    """The cell as text, in the order of `HEADER`, with standard deviations or with 95 % intervals."""
    return [
        [
            str(cell.ranking.ranks.get(row.stack, "–")),
            row.stack,
            *(percent(row.rules[rule], intervals) for rule in ("last", "last10", "noisy_val", "oracle")),
            f"{100 * row.gap.mean:.1f}" if row.gap else "–",
            percent(row.shifted, intervals),
            f"{row.detection.mean:.3f}" if row.detection else "–",
            f"{row.outsiders.mean:.3f}" if row.outsiders else "–",
            f"{100 * row.memorized_fraction.mean:.0f}" if row.memorized_fraction else "–",
            f"{row.calibration_error.mean:.3f}" if row.calibration_error else "–",
            f"{row.seconds.mean:.1f}" if row.seconds else "–",
            str(len(row.records)),
            ", ".join(row.privileged) or "none",
            describe_published(row.published),
        ]
        for row in cell.rows
    ]


DETECTOR_HEADER = (
    "stack", "detector", "AUROC", "wrong label", "outsider", "AP", "precision", "recall", "balanced accuracy", "outsider",
    "flagged",
)  # fmt: skip
DETECTOR_KEYS = (
    "noise_auroc", "id_noise_auroc", "ood_auroc", "average_precision", "precision", "recall", "balanced_accuracy",
    "ood_balanced_accuracy", "flagged_fraction",
)  # fmt: skip


DETECTOR_NOTE = (
    "Detectors: mean over the later half of their epochs and over seeds. AUROC of all wrong labels, of wrong labels on images "
    "of a class, and of outsiders, each against right labels; average precision of the scores, precision and recall of the "
    "flags; balanced accuracy of the flags for all, and for outsiders."
)


def detector_values(row: Row) -> dict[str, dict[str, float | None]]:
    """What a stack's detectors are worth: means over the later half of their epochs, and over seeds.

    Returns:
        By detector, the values of `DETECTOR_KEYS`; None where nothing was measured.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for record in row.records:
        judged = [each.detectors for each in record.rows if each.detectors]
        for epoch in judged[len(judged) // 2 :]:
            for name, values in epoch.items():
                for key in DETECTOR_KEYS:
                    if values.get(key) is not None:
                        found.setdefault(name, {}).setdefault(key, []).append(float(values[key] or 0.0))
    return {
        name: {key: float(np.mean(values[key])) if key in values else None for key in DETECTOR_KEYS}
        for name, values in found.items()
    }


def detector_rows(cell: Cell) -> list[list[str]]:
    """The detectors of a cell's stacks as text, in the order of `DETECTOR_HEADER`."""
    rows = []
    for row in cell.rows:
        for name, values in detector_values(row).items():
            shown = [("–" if values[key] is None else f"{values[key]:.3f}") for key in DETECTOR_KEYS]
            rows.append([row.stack, name, *shown])
    return rows


def footnote(cell: Cell) -> str:
    """How to read the ranks of a cell."""
    ranking = cell.ranking
    if not ranking.ranks:
        return "No ranks: at least two stacks with two seeds in common are needed."
    name = {"blocks": "block design (stack + seed)", "paired_t": "paired t-tests"}[cell.test]
    shown = f"{100 * ranking.detectable:.1f}" if ranking.detectable is not None else "?"
    return (
        f"Rank = 1 + number of stacks significantly better by `{cell.rule}`: {name}, Holm-corrected over "
        f"{len(ranking.p_values)} pairs at 5 %, {ranking.seeds} seeds. "
        f"Smallest difference that these seeds show with 80 % probability: {shown} points."
    )


CSV_HEADER = [
    "dataset", "noise", "label_set", "budget", "rank", "stack", "seeds",
    *(f"{rule}_{part}" for rule in SELECTION_RULES for part in ("mean", "std", "low", "high")),
    "gap", "shifted", "noise_auroc", "outsider_auroc", "memorized_fraction",
    "calibration_error", "seconds", "privileged", "published",
]  # fmt: skip


def to_csv(cells: Sequence[Cell]) -> str:
    """All cells as one CSV text with full precision."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for cell in cells:
        for row in cell.rows:
            summaries = [row.rules[rule] for rule in SELECTION_RULES]
            parts = [(s.mean, s.deviation, s.low, s.high) if s else (None,) * 4 for s in summaries]
            measures = (
                row.gap,
                row.shifted,
                row.detection,
                row.outsiders,
                row.memorized_fraction,
                row.calibration_error,
                row.seconds,
            )
            writer.writerow([
                plain_cell(cell.example.dataset), plain_cell(cell.example.noise), cell.label_set, cell.budget,
                cell.ranking.ranks.get(row.stack, ""), plain_cell(row.stack), len(row.records),
                *np.ravel(np.array(parts, dtype=object)).tolist(),
                *(each.mean if each else None for each in measures),
                plain_cell(", ".join(row.privileged)), describe_published(row.published),
            ])  # fmt: skip
    return out.getvalue()


def to_markdown(cells: Sequence[Cell], intervals: bool = False) -> str:
    """All cells as Markdown tables, with standard deviations or with 95 % intervals."""
    parts = []
    for cell in cells:
        lines = [f"### {cell.title}", "", "| " + " | ".join(HEADER) + " |", "|" + " --- |" * len(HEADER)]
        lines += [
            "| " + " | ".join(each.replace("|", "\\|") for each in row) + " |" for row in text_rows(cell, intervals)
        ]
        lines += ["", footnote(cell), *(f"Note: {warning}." for warning in cell.warnings), ""]
        detectors = detector_rows(cell)
        if detectors:
            lines += ["| " + " | ".join(DETECTOR_HEADER) + " |", "|" + " --- |" * len(DETECTOR_HEADER)]
            lines += ["| " + " | ".join(each.replace("|", "\\|") for each in row) + " |" for row in detectors]
            lines += ["", DETECTOR_NOTE, ""]
        lines += [f"Label set `{cell.label_set[:16]}`, budget `{cell.budget}`."]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


LATEX_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--", "·": r"$\cdot$",
}  # fmt: skip


def latex_text(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return "".join(LATEX_SPECIAL.get(character, character) for character in text)


def to_latex(cells: Sequence[Cell], intervals: bool = False) -> str:
    r"""All cells as LaTeX tables for `\usepackage{booktabs}`, with standard deviations or with 95 % intervals."""
    columns = [place for place, name in enumerate(HEADER) if name != "published"]
    parts = []
    for cell in cells:
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex_text(cell.title)}. {latex_text(footnote(cell))}}}",
        ]
        lines += [r"\begin{tabular}{rl" + "r" * (len(columns) - 3) + "l}", r"\toprule"]
        lines += [" & ".join(latex_text(HEADER[place]) for place in columns) + r" \\", r"\midrule"]
        lines += [
            " & ".join(latex_text(row[place]) for place in columns) + r" \\" for row in text_rows(cell, intervals)
        ]
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]))
    return "\n\n".join(parts) + "\n"
