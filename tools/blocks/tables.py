"""Blocks about all stacks of an entry: scores, verdicts, numbers of runs, stress cards and advice."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from typing import NamedTuple

from blocks.entry import RULE, Block, Cells, Entry
from noisybench.advice.evaluation import evaluate_advice, regret_table
from noisybench.leaderboard.measurement_tables import SHIPPED
from noisybench.leaderboard.setting_scores import setting_scores
from noisybench.leaderboard.stress import stress_point, stress_tables
from noisybench.leaderboard.stress_text import columns as stress_columns
from noisybench.leaderboard.stress_text import text_rows as stress_rows
from noisybench.leaderboard.table import Setting
from noisybench.leaderboard.verdict import BASELINE, reach_verdicts
from noisybench.leaderboard.verdict_text import verdict_sentences
from noisybench.utils.text import counted


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


def table(entry: Entry) -> Block:
    """Return the scores of all stacks, with the best rank of each setting in bold."""
    cells = [["stack", *entry.titles, "mean", "privileged information"]]
    for stack in entry.stacks:
        scores = entry.scores(stack)
        marks = zip(scores, entry.is_best(stack), entry.is_unstable(stack), strict=True)
        shown = [_score(score, best, unstable) for score, best, unstable in marks]
        cells.append([entry.names[stack], *shown, _score(_mean_of_all(scores)), entry.needs(stack)])
    deviation = entry.deviation()
    if deviation is None:
        return [("Score after the last epoch in %, one seed, which ranks nothing.", narrow(cells))]
    unstable = any(any(entry.is_unstable(stack)) for stack in entry.stacks)
    legend = "bold: best rank group" + (
        "; ~: unstable over seeds, so that few differences from it are significant" if unstable else ""
    )
    spread = f"mean over {entry.seeds()} (median standard deviation {deviation:.1f})"
    return [(f"Score after the last epoch in %, {spread}; {legend}.", narrow(cells))]


def narrow(cells: Cells) -> Cells:
    """Return a table with one column per stack instead of one row, if it has far more settings than stacks.

    >>> narrow([["stack", "clean", "mean"], ["elr", "98.0", "98.0"]])
    [['setting', 'elr'], ['clean', '98.0'], ['mean', '98.0']]
    >>> narrow([["stack", "clean"], ["elr", "98.0"]])
    [['stack', 'clean'], ['elr', '98.0']]
    """
    if len(cells[0]) - 1 < 2 * (len(cells) - 1):
        return cells
    return [["setting", *(row[0] for row in cells[1:])], *(list(row) for row in list(zip(*cells, strict=True))[1:])]


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
        f"epoch, the same stack in all settings is on average this far below the best one of each: `{entry.names[first]}` "
        f"{cost(regrets[first])} points, `{BASELINE}` {cost(regrets[BASELINE])}, and one drawn at random {cost(pooled)}. "
        f"{winners} different stacks are first in at least one setting."
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
        f"{counted(len(runs), 'run')} of {counted(len(entry.stacks), 'stack')} in {counted(len(entry.settings), 'setting')}, "
        f"{entry.seeds()}, {minutes:.0f} minutes in all, measured with version {listed('version')} ({listed('device')}); "
        f"status of the submission: {listed('status')}.", []
    )]  # fmt: skip


def advice(entry: Entry) -> Block:
    """Return the regret of advice and of simpler strategies in the settings of an entry, which take no part in it."""
    evaluation = evaluate_advice(Entry(SHIPPED).settings, entry.settings)
    if not evaluation.settings:
        sys.exit(
            f"error: {entry.name} has no setting with cross-entropy and two more stacks without privileged information"
        )
    text = (
        f"Points of the score after the last epoch below the best stack of the setting, {len(evaluation.settings)} settings, "
        f"{entry.seeds()}. Best in: settings where it is at most half a point below."
    )
    return [(text, regret_table(evaluation))]


def _mean_of_all(scores: Sequence[float | None]) -> float | None:
    """Return the mean over all settings; None if a setting has no score, since means over other settings differ in difficulty."""
    known = [score for score in scores if score is not None]
    return statistics.fmean(known) if len(known) == len(scores) else None


def _score(score: float | None, is_best: bool = False, is_unstable: bool = False, digits: int = 1) -> str:
    if score is None:
        return "–"
    shown = "~" * is_unstable + f"{score:.{digits}f}"
    return f"**{shown}**" if is_best else shown
