"""The data of one setting that the page shows, as JSON-like values."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from noisybench.leaderboard.columns import TABLE, best_columns, verification
from noisybench.leaderboard.facets import facets
from noisybench.leaderboard.measurements import Measurement, without_record
from noisybench.leaderboard.pairwise import compare
from noisybench.leaderboard.rounding import rounded
from noisybench.leaderboard.setting_description import BUDGET_FIELDS, SettingDescription, without_parameters
from noisybench.leaderboard.setting_scores import RANKING_RULES, SettingScores, setting_scores
from noisybench.leaderboard.standings import SettingStandings, setting_standings
from noisybench.leaderboard.statistics import Summary
from noisybench.leaderboard.stress import StressPoint, stress_point
from noisybench.leaderboard.table import Setting, StackRow, seed_scores
from noisybench.leaderboard.text_tables import footnote
from noisybench.records.codes import code_digest
from noisybench.records.selection import SELECTION_RULES

CURVES = ("test_score", "memorized_fraction", "noise_auroc")
"""Fields of the epochs that the page plots."""
MAX_POINTS = 60
"""Most points of a plotted curve."""


@dataclass(frozen=True)
class SubmittedRun:
    """Origin of a run of a submission: name, status and version of the entry, and digest of the training engine."""

    entry: str
    status: str
    version: str
    code: str


@dataclass(frozen=True)
class SettingPayload:
    """The data of one setting.

    Attributes:
        summary: what the list of settings shows; its ``key`` names the setting on the page.
        detail: JSON text of its table, curves and pairs.
        scores: mean score by stack and ranking rule, for comparisons across settings.
        seed_scores: scores by stack and seed, for verdicts over settings.
        stress: point of stress cards; None if it is in none.
        standings: standing of each stack, for the cards of methods.
        sort_key: order of the settings, see `SettingDescription.sort_key`.
        excluded: stacks that are not ranked and runs that are in no row, with the reason.
        submitted: origin of each run that comes from a submission.
        published: measurements for which there are published results.
        is_submitted: whether all of its runs come from submissions.
    """

    summary: dict[str, Any]
    detail: str
    scores: dict[str, dict[str, float]]
    seed_scores: SettingScores
    stress: StressPoint | None
    standings: SettingStandings
    sort_key: tuple[str, str, int, str]
    excluded: list[dict[str, str]]
    submitted: list[SubmittedRun]
    published: list[Measurement]
    is_submitted: bool = False


def setting_payload(setting: Setting) -> SettingPayload:
    """Return the data of a setting of at least one run.

    Example:
        >>> from noisybench.leaderboard.measurement_tables import builtin_measurements
        >>> from noisybench.leaderboard.table import build_settings
        >>> payload = setting_payload(build_settings(builtin_measurements())[0])
        >>> payload.is_submitted, len(payload.summary["key"])
        (True, 20)
    """
    description, rows = setting.description, setting.rows
    # A store may hold any text; the name of a setting on the page and in its address must not.
    key = hashlib.sha256(f"{description.label_set} {description.budget}".encode()).hexdigest()[:20]
    by_rule = {rule: setting.ranked_by(rule) for rule in RANKING_RULES}
    measurements = [measurement for row in rows for measurement in row.measurements]
    is_submitted = all(measurement.entry for measurement in measurements)
    detail = _detail(setting, by_rule)
    return SettingPayload(
        _summary(setting, by_rule, key, is_submitted),
        # As text: a page joins the unchanged settings without writing their JSON again. Browsers refuse NaN in JSON.
        json.dumps(detail, allow_nan=False),
        {
            row.stack: {rule: score.mean for rule in RANKING_RULES if (score := row.scores[rule]) is not None}
            for row in rows
        },
        setting_scores(setting, key),
        stress_point(setting),
        setting_standings(detail),
        description.sort_key,
        _excluded(setting),
        [
            SubmittedRun(each.entry, each.status, each.version, dict(each.code).get("engine", ""))
            for each in measurements
            if each.entry
        ],
        # Kept as long as the board, so without the curves and detectors of the records.
        [without_record(measurement) for row in rows if row.published for measurement in row.measurements],
        is_submitted,
    )


def _summary(setting: Setting, by_rule: Mapping[str, Setting], key: str, is_submitted: bool) -> dict[str, Any]:
    """Return what the list of settings shows of one, see `SettingPayload`."""
    description, rows = setting.description, setting.rows
    code = code_digest(setting.code)
    return {
        "key": key,
        "title": setting.title,
        "dataset": description.dataset,
        "noise": description.noise,
        "task": description.task,
        "metric": description.metric,
        "network": description.network,
        "epochs": description.epochs,
        "budget": description.budget,
        "labels": description.label_set,
        "rate": description.actual_noise_rate,
        # Settings that differ only in the noise rate are points of one line, and those that differ only in the seed of the
        # noise are draws of one noise; runs of other code never are.
        "family": _family(description, ["rate", "seed"], code),
        "draws": _family(description, ["seed"], code),
        "code": code,
        "codes": {row.stack: code_digest(row.code) for row in rows},
        "stacks": len(rows),
        "runs": sum(len(row.measurements) for row in rows),
        "published": any(row.published for row in rows),
        "scores": {row.stack: [short_summary(row.scores[rule]) for rule in RANKING_RULES] for row in rows},
        "ranks": {row.stack: [ranked.ranking.ranks.get(row.stack) for ranked in by_rule.values()] for row in rows},
        "seconds": {row.stack: short(row.wall_seconds.mean) for row in rows if row.wall_seconds},
        "privileged": {row.stack: list(row.privileged) for row in rows if row.privileged},
        "facets": facets(description, is_submitted),
        # By rule: stacks that vary so much over seeds that few differences from them are significant.
        "unstable": [[each.stack for each in ranked.unstable] for ranked in by_rule.values()],
        "entries": sorted({measurement.entry for row in rows for measurement in row.measurements if measurement.entry}),
    }


def _detail(setting: Setting, by_rule: Mapping[str, Setting]) -> dict[str, Any]:
    """Return the table, curves and pairs of a setting."""
    description, rows = setting.description, setting.rows
    best = best_columns(setting)
    return {
        "metric": description.metric,
        "budget": {name: getattr(description, name) for name in BUDGET_FIELDS},
        "convention": description.convention,
        "warnings": list(setting.warnings),
        "notes": list(setting.notes),
        "versions": sorted({measurement.version for row in rows for measurement in row.measurements}),
        "test": setting.test,
        "rules": {rule: _ranking(ranked, rule) for rule, ranked in by_rule.items()},
        "rows": [_row(setting, row, best[row.stack]) for row in rows],
    }


def _excluded(setting: Setting) -> list[dict[str, str]]:
    """Return the stacks that are not ranked and the runs that are in no row, with the reason."""
    excluded = [
        {"what": f"{setting.title} · {stack}", "why": "not ranked: fewer than two seeds in common with the others"}
        for stack in setting.ranking.untested
        if len(setting.rows) > 1
    ]
    return excluded + [{"what": setting.title, "why": reason} for reason in setting.other_code]


def _family(description: SettingDescription, parameters: list[str], code: str) -> str:
    """Return what settings share that differ only in some parameters of the noise model."""
    noise = without_parameters(description.noise, parameters)
    return json.dumps([description.dataset, noise, description.budget, code])


def _ranking(ranked: Setting, rule: str) -> dict[str, Any]:
    """Return ranks by one selection rule, their footnote, and the comparison of every pair."""
    index = {row.stack: number for number, row in enumerate(ranked.rows)}
    pairs = [
        [
            index[pair.first], index[pair.second],
            *(short(value) for value in (
                pair.difference, pair.low, pair.high, pair.p, pair.p_permutation, pair.p_wilcoxon
            )),
            pair.additional_seeds,
        ]
        for pair in compare(seed_scores(ranked.rows, rule), ranked.ranking)
    ]  # fmt: skip
    ranks = [ranked.ranking.ranks.get(row.stack) for row in ranked.rows]
    return {"ranks": ranks, "footnote": footnote(ranked), "pairs": pairs}


def _row(setting: Setting, row: StackRow, best: list[str]) -> dict[str, Any]:
    """Return the data of a stack: the text of its cells as in all other tables, and what the page sorts, plots and exports."""
    return {
        "cells": [column.cell(setting, row) for column in TABLE],
        "best": best,
        "stack": row.stack,
        "privileged": list(row.privileged),
        "seeds": len(row.measurements),
        "code": code_digest(row.code),
        "warnings": list(row.warnings),
        **{rule: short_summary(row.scores[rule]) for rule in SELECTION_RULES},
        "oracle_gap": short_summary(row.oracle_gap),
        "noise_auroc": short_summary(row.noise_auroc),
        "ood_auroc": short_summary(row.ood_auroc),
        "mean_shift_accuracy": short_summary(row.mean_shift_accuracy),
        "balanced_accuracy": short_summary(row.balanced_accuracy),
        "worst_class_recall": short_summary(row.worst_class_recall),
        "memorized_fraction": short_summary(row.memorized_fraction),
        "memorized_chance": short_summary(row.memorized_chance),
        "calibration_error": short_summary(row.calibration_error),
        "wall_seconds": short_summary(row.wall_seconds),
        "published": [
            [result.value, result.deviation, result.protocol, result.architecture, result.method, result.source]
            for result in row.published
        ],
        "curves": {name: _curve(row, name) for name in CURVES},
        "epochs": row.measurements[0].setting.epochs,
        "roc": _roc(row),
        "runs": [
            [
                measurement.seed,
                measurement.run_id,
                *(short(measurement.score(rule)) for rule in SELECTION_RULES),
                code_digest(measurement.code),
                measurement.origin,
            ]
            for measurement in row.measurements
        ],
        "verified": verification(row),
    }


def short(value: float | None) -> float | None:
    """Return a value with 7 decimal places.

    Example:
        >>> short(1 / 3)
        0.3333333
    """
    return None if value is None else rounded(value)


def short_summary(summary: Summary | None) -> list[float | None] | None:
    """Return mean, standard deviation, and the ends of the 95 % interval."""
    if summary is None:
        return None
    return [short(value) for value in (summary.mean, summary.deviation, summary.low, summary.high)]


def _curve(row: StackRow, name: str) -> list[list[float]]:
    """Return epoch, mean, smallest and largest value over seeds, thinned to `MAX_POINTS`; empty without complete records.

    A single seed has no range.
    """
    records = [measurement.record for measurement in row.measurements]
    curves = [[getattr(epoch, name) for epoch in record.rows if epoch.stage == "train"] for record in records if record]
    # A mean over only some seeds would differ from the score in the table.
    if len(curves) < len(records):
        return []
    points = [(epoch, [curve[epoch] for curve in curves]) for epoch in _plotted_epochs(min(map(len, curves)))]
    # Epochs at which a seed has no value are left out.
    known = [(epoch, values) for epoch, values in points if None not in values]
    ranges = [
        (math.fsum(values) / len(values), *((min(values), max(values)) if len(values) > 1 else ()))
        for _, values in known
    ]
    return [[epoch, *(round(value, 4) for value in each)] for (epoch, _), each in zip(known, ranges, strict=True)]


@functools.cache
def _plotted_epochs(count: int) -> list[int]:
    """Return at most `MAX_POINTS` evenly spaced epochs."""
    epochs: list[int] = np.unique(np.linspace(0, count - 1, min(count, MAX_POINTS)).round().astype(int)).tolist()
    return epochs


def _roc(row: StackRow) -> list[float] | None:
    """Return the mean ROC curve over seeds; None if a run has none."""
    curves = [measurement.record.detection.roc if measurement.record else None for measurement in row.measurements]
    # All curves have the same grid of false positive rates, so the mean is taken at each of them.
    known = [curve for curve in curves if curve is not None]
    return [round(float(rate), 4) for rate in np.mean(known, axis=0)] if len(known) == len(curves) else None
