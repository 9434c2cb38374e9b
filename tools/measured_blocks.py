"""Write the measured tables, sentences and figures of README.md, docs/ and headers of suites, from the entries that ship.

usage: python tools/measured_blocks.py [--check] [FILE ...]

In Markdown, a block is everything between `<!-- measured: KIND ENTRY -->` and `<!-- end -->`. Kinds: `table` (mean score of
each stack in each setting), `gains` (the same as differences from cross-entropy, which also draws docs/ENTRY.png), `verdict`
(sentences), `origin` (runs, version, device, duration), `summary` (how far single stacks are below the best ones), `stress`
(stress cards), `advice` (regret of `noisybench advise --evaluate`), `claims` (those of tools/claims.yaml), and one table for
each other number of a run in `NUMBERS`. A block `<!-- measured: methods TASK -->` has all mitigations of a task, from the
registry and all entries. In the header of a suite, a line `measured: KIND ENTRY` begins such a block, which ends at the next
one or at the next field. The blocks of an entry that does not ship yet, but is listed in tools/boards.yaml, say so. `--check`
writes nothing and fails if a file would change.
"""

from __future__ import annotations

import argparse
import functools
import re
import statistics
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from noisybench.advice.evaluation import evaluate_advice, regret_table
from noisybench.leaderboard.display_names import distinct_names, distinguishing_titles
from noisybench.leaderboard.filters import member_names
from noisybench.leaderboard.measurements import builtin_measurements
from noisybench.leaderboard.method_overview import BoardPlace, MethodOverview, method_overviews
from noisybench.leaderboard.mixed_model import LabelSetScores, compare_stacks
from noisybench.leaderboard.stress import stress_point, stress_tables
from noisybench.leaderboard.stress_text import columns as stress_columns
from noisybench.leaderboard.stress_text import text_rows as stress_rows
from noisybench.leaderboard.table import Setting, build_settings
from noisybench.leaderboard.verdict import BASELINE, reach_verdicts, setting_scores
from noisybench.leaderboard.verdict_text import verdict_sentences

ROOT = Path(__file__).parents[1]
CLAIMS = ROOT / "tools" / "claims.yaml"
BOARDS = ROOT / "tools" / "boards.yaml"
UNMEASURED = "Not measured yet."
SIDES = ("first", "second")
RULE = "last"
MARKDOWN_BLOCK = re.compile(
    r"(?P<start><!-- measured: (?P<kind>\w+) (?P<entry>[\w-]+) -->\n)(?P<body>.*?)(?P<end><!-- end -->)", re.DOTALL
)
HEADER_BLOCK = re.compile(
    r"(?P<start>#(?: expect:|        )  measured: (?P<kind>\w+) (?P<entry>[\w-]+)\n)"
    r"(?P<body>(?:#          (?!measured: ).*\n)*)(?P<end>)"
)


class Number(NamedTuple):
    """A number of each run: field of `Measurement` or diagnostic, caption of its table, unit and decimals."""

    name: str
    caption: str
    scale: float = 100.0
    digits: int = 1


NUMBERS = {
    "early_stopping": Number("noisy_val", "Score in % after the epoch that noisy validation selects"),
    "best_epoch": Number("oracle", "Score in % after the best epoch by the test split, which no user could select"),
    "detection": Number("noise_auroc", "AUROC of detecting mislabeled examples by the final label quality, in %"),
    "ood_detection": Number("ood_auroc", "AUROC of detecting OOD images by the final label quality, in %"),
    "shift": Number("mean_shift_accuracy", "Accuracy in % on shifted test sets, mean over the sets"),
    "memorized": Number(
        "memorized_fraction",
        "Mislabeled examples in % that are predicted as their incorrect label in the end",
    ),
    "kept": Number("kept_fraction", "Training examples in % that the stack keeps"),
    "corrected_masks": Number("label_miou", "Mean IoU in % of the corrected training masks with the clean ones"),
    "sampled": Number("exact_match_sampled", "Exact match in % of responses sampled at temperature 1"),
    "first_error": Number("first_error.f1", "F1 in % of the first incorrect step"),
    "best_of": Number("best_of.verifier", "Accuracy in % of the solution that the verifier prefers"),
    "entropy": Number(
        "classifier_input.singular_value_entropy", "Singular value entropy of the features that enter the classifier", 1, 2
    ),
    "largest_direction": Number(
        "classifier_input.largest_singular_value_ratio",
        "Largest singular value ratio of the features that enter the classifier", 1, 2,
    ),
}  # fmt: skip
"""Kinds of tables of one number per run."""
HEADER_WIDTH = 116
MARKDOWN_WIDTH = 160

Cells = list[list[str]]
"""Rows of cells, the titles first."""
Block = list[tuple[str, Cells]]
"""Paragraphs, each with the table that follows it; without cells there is none."""


class Entry:
    """Settings of one entry, with short names of its stacks and settings."""

    def __init__(self, name: str) -> None:
        measurements = [each for each in builtin_measurements() if each.entry == name]
        if not measurements:
            entries = ", ".join(sorted({each.entry for each in builtin_measurements()}))
            sys.exit(f"error: no entry {name} ships with noisybench; known entries: {entries}")
        self.name = name
        self.settings: list[Setting] = build_settings(measurements, RULE)
        descriptions = [setting.description for setting in self.settings]
        self.titles = distinguishing_titles([(each.dataset, each.noise, each.task) for each in descriptions])
        stacks = {row.stack for setting in self.settings for row in setting.rows}
        self.names = distinct_names(stacks)
        means = {stack: [score for score in self.scores(stack) if score is not None] for stack in stacks}
        self.stacks = sorted(stacks, key=lambda stack: (-statistics.fmean(means[stack]), stack))

    def scores(self, stack: str) -> list[float | None]:
        """Return the mean score of a stack in each setting, in points; None where it has no runs."""
        return [self._mean(setting, stack) for setting in self.settings]

    @staticmethod
    def _mean(setting: Setting, stack: str) -> float | None:
        summaries = [row.scores[RULE] for row in setting.rows if row.stack == stack]
        return 100 * summaries[0].mean if summaries and summaries[0] is not None else None

    def complete_scores(self, stack: str) -> list[float]:
        """Return the mean score of a stack in each setting, in points; it must have runs in all of them."""
        scores = [score for score in self.scores(stack) if score is not None]
        if len(scores) < len(self.settings):
            sys.exit(f"error: {self.name}: {stack} has no runs in some settings")
        return scores

    def gains(self, stack: str) -> list[float | None]:
        """Return the difference of a stack from cross-entropy in each setting, in points."""
        pairs = zip(self.scores(stack), self.scores(BASELINE), strict=True)
        return [None if score is None or base is None else score - base for score, base in pairs]

    def is_best(self, stack: str) -> list[bool]:
        """Return for each setting whether a stack shares the best rank; an unstable one must have the highest score for it."""
        unstable = self.is_unstable(stack)
        return [
            setting.ranking.ranks.get(stack) == 1 and (not doubtful or setting.rows[0].stack == stack)
            for setting, doubtful in zip(self.settings, unstable, strict=True)
        ]

    def is_unstable(self, stack: str) -> list[bool]:
        """Return for each setting whether a stack varies so much over seeds that few differences from it are significant."""
        return [stack in {each.stack for each in setting.unstable} for setting in self.settings]

    def needs(self, stack: str) -> str:
        """Return the privileged information of a stack in words."""
        rows = [row for setting in self.settings for row in setting.rows if row.stack == stack]
        return ", ".join(rows[0].privileged).replace("_", " ") or "none"

    def seeds(self) -> str:
        """Return the smallest and largest number of seeds in words."""
        counts = {len(row.measurements) for setting in self.settings for row in setting.rows}
        low, high = min(counts), max(counts)
        return f"{low} seeds" if low == high else f"{low} to {high} seeds"

    def deviation(self) -> float:
        """Return the median standard deviation over seeds, in points."""
        summaries = [row.scores[RULE] for setting in self.settings for row in setting.rows]
        deviations = [each.deviation for each in summaries if each is not None and each.deviation is not None]
        return 100 * float(statistics.median(deviations))


def table(entry: Entry) -> Block:
    """Return the scores of all stacks, with the best rank of each setting in bold."""
    cells = [["stack", *entry.titles, "mean", "privileged information"]]
    for stack in entry.stacks:
        scores = entry.scores(stack)
        marks = zip(scores, entry.is_best(stack), entry.is_unstable(stack), strict=True)
        shown = [_score(score, best, unstable) for score, best, unstable in marks]
        cells.append([entry.names[stack], *shown, _score(_mean_of_all(scores)), entry.needs(stack)])
    spread = f"median standard deviation {entry.deviation():.1f}"
    unstable = any(any(entry.is_unstable(stack)) for stack in entry.stacks)
    legend = "bold: rank 1" + (
        "; ~: unstable over seeds, so that few differences from it are significant" if unstable else ""
    )
    return [(f"Score after the last epoch in %, mean over {entry.seeds()} ({spread}); {legend}.", cells)]


def gains(entry: Entry) -> Block:
    """Return the differences of all stacks from cross-entropy, by their mean."""
    others = [stack for stack in entry.stacks if stack != BASELINE]
    cells = [["stack", *entry.titles, "mean"]]
    for stack in others:
        values = entry.gains(stack)
        shown = ["–" if value is None else f"{value:+.1f}" for value in [*values, _mean_of_all(values)]]
        cells.append([entry.names[stack], *shown])
    return [(f"Points above cross-entropy after the last epoch, mean over {entry.seeds()}.", cells)]


def verdict(entry: Entry) -> Block:
    """Return the verdict over the settings of an entry, in sentences."""
    verdicts = reach_verdicts(
        [setting_scores(setting, str(place)) for place, setting in enumerate(entry.settings)], RULE
    )
    if not verdicts:
        sys.exit(f"error: {entry.name} has no verdict: too few settings or seeds")
    return [(" ".join(verdict_sentences(each)), []) for each in verdicts]


def summary(entry: Entry) -> Block:
    """Return in sentences how far single stacks are below the best one of each setting, without privileged information."""
    scores = {stack: entry.complete_scores(stack) for stack in entry.stacks if entry.needs(stack) == "none"}
    best = [max(column) for column in zip(*scores.values(), strict=True)]
    regrets = {
        stack: [top - score for top, score in zip(best, values, strict=True)] for stack, values in scores.items()
    }
    first, *_ = sorted(scores, key=lambda stack: statistics.fmean(regrets[stack]))
    winners = sum(min(values) == 0 for values in regrets.values())
    pooled = [regret for values in regrets.values() for regret in values]

    def cost(values: Sequence[float]) -> str:
        return f"{statistics.fmean(values):.1f} ({max(values):.1f} at most)"

    text = (
        f"{len(scores)} stacks without privileged information, {len(entry.settings)} settings, {entry.seeds()}: after the last "
        f"epoch, always `{entry.names[first]}` is on average {cost(regrets[first])} points below the best stack of the setting, "
        f"always `{BASELINE}` {cost(regrets[BASELINE])}, and a stack drawn at random {cost(pooled)}. {winners} different stacks "
        "are first in at least one setting."
    )
    clean = [place for place, setting in enumerate(entry.settings) if setting.description.noise == "clean"]
    if clean:
        gains = [entry.gains(stack)[clean[0]] for stack in scores if stack != BASELINE]
        losers = sum(gain is not None and gain < -0.5 for gain in gains)
        text += f" On clean labels, {losers} of {len(gains)} cost more than half a point against `{BASELINE}`."
    return [(text, [])]


def stress(entry: Entry) -> Block:
    """Return the stress cards of each noise model of an entry as one table."""
    points = [point for setting in entry.settings if (point := stress_point(setting)) is not None]
    tables = stress_tables(points, RULE)
    if not tables:
        sys.exit(f"error: {entry.name} has no noise model with several rates")
    return [
        (f"{each.noise.partition('(')[0]}, with 95 % intervals over seeds:", [stress_columns(each), *stress_rows(each)])
        for each in tables
    ]


def numbers(entry: Entry, number: Number) -> Block:
    """Return the mean of one number of the runs of each stack, for the stacks and settings that have it."""
    values = {stack: [_mean_number(setting, stack, number) for setting in entry.settings] for stack in entry.stacks}
    places = [place for place in range(len(entry.settings)) if any(row[place] is not None for row in values.values())]
    if not places:
        sys.exit(f"error: the runs of {entry.name} have no {number.name}")
    cells = [["stack", *(entry.titles[place] for place in places)]]
    for stack, row in values.items():
        if any(row[place] is not None for place in places):
            cells.append([entry.names[stack], *(_score(row[place], digits=number.digits) for place in places)])
    return [(f"{number.caption}, mean over {entry.seeds()}.", cells)]


def _mean_number(setting: Setting, stack: str, number: Number) -> float | None:
    runs = [measurement for row in setting.rows if row.stack == stack for measurement in row.measurements]
    name = number.name
    values = [getattr(each, name) if hasattr(each, name) else each.diagnostic(name) for each in runs]
    known = [value for value in values if value is not None]
    return number.scale * statistics.fmean(known) if known else None


def origin(entry: Entry) -> Block:
    """Return the number of runs of an entry, what measured them and how they were verified, in one sentence."""
    runs = [each for setting in entry.settings for row in setting.rows for each in row.measurements]

    def listed(name: str) -> str:
        return ", ".join(sorted({str(getattr(each, name)) for each in runs}))

    minutes = sum(each.wall_seconds for each in runs) / 60
    return [(
        f"{len(runs)} runs of {len(entry.stacks)} stacks in {len(entry.settings)} settings, {entry.seeds()}, "
        f"{minutes:.0f} minutes in all, measured with version {listed('version')} ({listed('device')}); "
        f"status of the submission: {listed('status')}.", []
    )]  # fmt: skip


def claims(entry: Entry) -> Block:
    """Return the claims of publications about stacks of an entry, with the differences that were measured."""
    cells = [["claim", "compared", "difference in points", "first is better in", "here"]]
    for claim in yaml.safe_load(CLAIMS.read_text(encoding="utf-8")):
        first, second = (next((stack for stack in claim[side] if stack in entry.names), None) for side in SIDES)
        settings = [
            each for each in entry.settings if each.description.noise.startswith(tuple(claim.get("noise", [""])))
        ]
        if first is None or second is None or not settings:
            continue
        scores = [setting_scores(setting) for setting in settings]
        data = [LabelSetScores(each.setting, each.scores[RULE], each.resolution, each.is_drawn) for each in scores]
        compared = compare_stacks(data, [first, second], "label_sets")
        difference, low, high = (100 * float(each[0, 1]) for each in (compared.difference, *compared.intervals()))
        gaps = [compare_stacks([each], [first, second], "label_sets").difference[0, 1] for each in data]
        where = "" if len({gap > 0 for gap in gaps}) == 1 else " on average"
        outcome = f"holds{where}" if low > 0 else f"the reverse holds{where}" if high < 0 else "not settled"
        cells.append([
            f"{claim['claim']} ({claim['source']})", f"`{entry.names[first]}` – `{entry.names[second]}`",
            f"{difference:+.1f} [{low:.1f}, {high:.1f}]", f"{sum(gap > 0 for gap in gaps)} of {len(gaps)} settings", outcome,
        ])  # fmt: skip
    if len(cells) == 1:
        sys.exit(f"error: no claim is about stacks of {entry.name}")
    return [
        (f"Differences after the last epoch over {entry.seeds()}, with 95 % intervals, each for its pair alone.", cells)
    ]


def advice(entry: Entry) -> Block:
    """Return the regret of advice and of simpler strategies in the settings of an entry, which take no part in it."""
    known = [
        setting for name in sorted({each.entry for each in builtin_measurements()}) for setting in Entry(name).settings
    ]
    evaluation = evaluate_advice(known, entry.settings)
    if not evaluation.settings:
        sys.exit(
            f"error: {entry.name} has no setting with cross-entropy and two more stacks without privileged information"
        )
    text = (
        f"Points of the score after the last epoch below the best stack of the setting, {len(evaluation.settings)} settings, "
        f"{entry.seeds()}. Best in: settings where it is at most half a point below."
    )
    return [(text, regret_table(evaluation))]


def methods(task: str) -> Block:
    """Return all mitigations whose first task is the given one: size, needs, places and costs on the entries, fidelity."""
    overviews = [each for each in _overviews() if each.card.tasks[0] == task]
    if not overviews:
        sys.exit(f"error: no mitigation is for {task} first")
    cells = [["method", "paper", "lines of code", "needs", "place", "cost", "fidelity"]]
    cells += [_method_row(overview) for overview in overviews]
    measured = sum(bool(each.places) for each in overviews)
    return [(f"{len(overviews)} methods, of which {measured} are measured on an entry that ships.", cells)]


@functools.cache
def _overviews() -> list[MethodOverview]:
    return method_overviews(builtin_measurements())


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


KINDS: Mapping[str, Callable[[Entry], Block]] = {
    "table": table, "gains": gains, "verdict": verdict, "summary": summary, "stress": stress, "claims": claims,
    "origin": origin, "advice": advice,
    **{kind: functools.partial(numbers, number=number) for kind, number in NUMBERS.items()},
}  # fmt: skip


def _mean_of_all(scores: Sequence[float | None]) -> float | None:
    """Return the mean over all settings; None if a setting has no score, since means over other settings differ in difficulty."""
    known = [score for score in scores if score is not None]
    return statistics.fmean(known) if len(known) == len(scores) else None


def _score(score: float | None, is_best: bool = False, is_unstable: bool = False, digits: int = 1) -> str:
    if score is None:
        return "–"
    shown = "~" * is_unstable + f"{score:.{digits}f}"
    return f"**{shown}**" if is_best else shown


def markdown(block: Block) -> str:
    """Return a block as Markdown."""
    parts = []
    for text, cells in block:
        parts.append(textwrap.fill(text, MARKDOWN_WIDTH, break_long_words=False))
        if cells:
            rule = "| --- " * len(cells[0]) + "|"
            titles, *rows = ["| " + " | ".join(row) + " |" for row in cells]
            parts.append("\n".join([titles, rule, *rows]))
    return "\n\n".join(parts) + "\n"


def header(block: Block) -> str:
    """Return a block as lines of a header, which are comments."""
    lines = []
    for text, cells in block:
        lines += textwrap.wrap(text.replace("bold: rank 1", "*: rank 1"), HEADER_WIDTH)
        lines += plain_table(cells) if cells else []
    return "".join(f"#          {line}\n" for line in lines)


def plain_table(cells: Cells) -> list[str]:
    """Return a table as aligned lines; if it is too wide, with numbers for long titles, or with one paragraph per row.

    >>> plain_table([["stack", "pair_flip (40 %)"], ["elr", "**86.7**"]])
    ['stack  pair_flip (40 %)', 'elr               86.7*']
    """
    # A star after a number takes the place of bold.
    plain = [[f"{cell.strip('*')}*" if cell.startswith("**") else f"{cell} " for cell in row] for row in cells]
    lines = _aligned(plain)
    if max(map(len, lines)) <= HEADER_WIDTH:
        return lines
    titles, *rows = plain
    places = [place for place, title in enumerate(titles) if len(title) > 1 + max(len(row[place]) for row in rows)]
    short = [f"[{places.index(place) + 1}] " if place in places else title for place, title in enumerate(titles)]
    lines = _aligned([short, *rows])
    if max(map(len, lines)) <= HEADER_WIDTH:
        legend = "; ".join(f"[{number}] {titles[place].strip()}" for number, place in enumerate(places, 1))
        return [*textwrap.wrap(f"{legend}.", HEADER_WIDTH), *lines]
    paragraphs = (
        f"{row[0].strip()} "
        + "; ".join(f"{title}: {cell.strip('*')}" for title, cell in zip(cells[0][1:], row[1:], strict=True))
        for row in cells[1:]
    )
    return [line for text in paragraphs for line in textwrap.wrap(f"- {text}.", HEADER_WIDTH, subsequent_indent="  ")]


def _aligned(rows: Cells) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        " ".join(
            [name.ljust(widths[0]), *(value.rjust(width) for value, width in zip(values, widths[1:], strict=True))]
        ).rstrip()
        for name, *values in rows
    ]


def is_measured(entry: str) -> bool:
    """Return False for an entry of tools/boards.yaml that does not ship yet."""
    shipped = {each.entry for each in builtin_measurements()}
    return entry in shipped or entry not in yaml.safe_load(BOARDS.read_text(encoding="utf-8"))


def updated(text: str, is_header: bool) -> str:
    """Return the text of a file with its blocks written anew."""

    def replace(match: re.Match[str]) -> str:
        kind, entry = match["kind"], match["entry"]
        if kind == "methods":
            block = methods(entry)
        elif kind in KINDS:
            block = KINDS[kind](Entry(entry)) if is_measured(entry) else [(UNMEASURED, [])]
        else:
            sys.exit(f"error: unknown kind of block {kind}; known kinds: {', '.join(KINDS)}, methods")
        return match["start"] + (header(block) if is_header else markdown(block)) + match["end"]

    return (HEADER_BLOCK if is_header else MARKDOWN_BLOCK).sub(replace, text)


def draw(entry: Entry, output: Path) -> None:
    """Draw the differences of all stacks from cross-entropy in all settings."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    import numpy as np

    stacks = [stack for stack in entry.stacks if stack != BASELINE]
    values = np.array([[np.nan if gain is None else gain for gain in entry.gains(stack)] for stack in stacks])
    limit = float(np.nanquantile(np.abs(values), 0.9))
    figure, axes = plt.subplots(
        figsize=(2.6 + 0.72 * len(entry.titles), 1.6 + 0.34 * len(stacks)), layout="constrained"
    )
    axes.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    for row, stack in enumerate(stacks):
        for column, is_best in enumerate(entry.is_best(stack)):
            if np.isfinite(values[row, column]):
                dark = abs(values[row, column]) > 0.65 * limit
                axes.text(
                    column, row, f"{values[row, column]:+.1f}", ha="center", va="center", fontsize=8,
                    color="white" if dark else "black", weight="bold" if is_best else "normal",
                )  # fmt: skip
    names = [entry.names[stack] + ("" if entry.needs(stack) == "none" else " *") for stack in stacks]
    axes.set_yticks(range(len(stacks)), names, fontsize=8)
    axes.set_xticks(range(len(entry.titles)), entry.titles, rotation=35, ha="left", rotation_mode="anchor", fontsize=8)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    privileged = "\n*: privileged information" if any(name.endswith("*") for name in names) else ""
    axes.set_xlabel(f"Points above cross-entropy; bold: rank 1 of the setting{privileged}", fontsize=8)
    figure.savefig(output, dpi=120, metadata={"Software": ""})
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the blocks of all files, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="Files (default: README.md, docs and suites)")
    parser.add_argument("--check", action="store_true", help="Write nothing, and fail if a file would change")
    options = parser.parse_args(arguments)
    default = [
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "configs/suites").glob("*.yaml")),
    ]
    changed = []
    for file in options.files or default:
        text = file.read_text(encoding="utf-8")
        is_header = file.suffix == ".yaml"
        new = updated(text, is_header)
        if new != text:
            changed.append(str(file))
        if not options.check:
            file.write_text(new, encoding="utf-8")
            drawn = {match["entry"] for match in MARKDOWN_BLOCK.finditer(text) if match["kind"] == "gains"}
            for name in sorted(filter(is_measured, drawn if not is_header else ())):
                draw(Entry(name), ROOT / "docs" / f"{name}.png")
    if options.check and changed:
        sys.exit(f"error: not as measured: {', '.join(changed)}; write them by python tools/measured_blocks.py")


if __name__ == "__main__":
    main()
