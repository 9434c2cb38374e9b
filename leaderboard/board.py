"""What the page shows, as JSON-like data.

Records are read and reduced a cell at a time, so that memory does not grow with the store, and a cell is read again only when
its runs have changed.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from noisybench.errors import UserError
from noisybench.leaderboard.reproduction import HEADER as LEDGER_HEADER
from noisybench.leaderboard.reproduction import ledger, text_rows
from noisybench.leaderboard.statistics import Summary, Test, compare, over_cells, rank, summarise
from noisybench.leaderboard.submission import Submission
from noisybench.leaderboard.table import Cell, Row, build_cells, footnote, rank_rows, seed_values
from noisybench.records.schema import RunRecord
from noisybench.records.selection import SELECTION_RULES
from noisybench.tracking.reader import TrackedRun
from noisybench.tracking.store import Store

RANKED = ("last", "last10", "noisy_val")
"""Rules by which the page ranks; the oracle never is one."""
CURVES = ("test_score", "noisy_val_score", "memorized_fraction", "recovered_fraction", "noise_auroc")
POINTS = 60
"""As many points of a curve are drawn at most."""


@dataclass(frozen=True)
class Board:
    """All cells, and what is said of them together.

    Attributes:
        cells: what the list of cells shows of each, in its order; `key` names its detail.
        details: by key, the JSON text of a cell's table, curves and pairs.
        overall: stacks over several cells.
        draws: stacks over several draws of one noise.
        left_out: runs that are in no table, or not ranked there, and why.
        ledger: published numbers beside ours, as rows of text below their header.
        runs: where MLflow shows a run, before its id; empty where there is no MLflow beside the page.
    """

    cells: list[dict[str, Any]]
    details: dict[str, str]
    overall: list[dict[str, Any]]
    draws: list[dict[str, Any]]
    left_out: list[dict[str, str]]
    ledger: list[list[str]]
    runs: str = ""


def board_of(records: Iterable[RunRecord], test: Test = "blocks") -> Board:
    """The board of records at hand."""
    return _assemble([_told(cell, {}) for cell in build_cells(records, test=test)], [])


def submitted_records(entries: Sequence[Submission]) -> dict[str, tuple[RunRecord, str]]:
    """The runs of entries by their identity, each with its entry and what was verified of it.

    Raises:
        UserError: an entry is damaged.
    """
    return {
        record.identity: (record, f"{entry.status} ({entry.folder.name})")
        for entry in entries
        for record in entry.records()
    }


@dataclass
class Boards:
    """Makes the board of a store, again and again as runs are added.

    Args:
        store: read.
        runs: as in `Board`.
        test: as in `statistics.rank`.
        entries: runs that others have submitted, shown beside the store's own.
    """

    store: Store
    runs: str = ""
    test: Test = "blocks"
    entries: Sequence[Submission] = ()
    _cells: dict[frozenset[str], tuple[_Told, list[dict[str, str]]]] = field(default_factory=dict)
    _board: Board | None = None
    _failed: frozenset[str] = frozenset()
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._submitted = submitted_records(self.entries)

    def board(self) -> Board:
        """The board as the store is now; the same object while nothing has changed."""
        with self._lock:
            failed = self.store.runs.list_runs("FAILED")
            groups: dict[tuple[str, str], dict[str, TrackedRun]] = {}
            for run in self.store.runs.list_runs("FINISHED"):
                cell = groups.setdefault((run.tags.get("label_set", ""), run.tags.get("budget", "")), {})
                cell.setdefault(run.tags["identity"], run)  # the latest of each
            own = {identity for cell in groups.values() for identity in cell}
            submitted: dict[tuple[str, str], list[str]] = {key: [] for key in groups}
            for identity, (record, _) in self._submitted.items():
                if identity not in own:
                    submitted.setdefault((record.label_set, record.budget), []).append(identity)
            wanted = {
                frozenset([*(run.run_id for run in groups.get(key, {}).values()), *identities]): (
                    list(groups.get(key, {}).values()),
                    identities,
                )
                for key, identities in submitted.items()
            }
            reasons = frozenset(run.run_id for run in failed)
            if self._board is None or wanted.keys() != self._cells.keys() or reasons != self._failed:
                self._cells = {runs: self._cells.get(runs) or self._read(*cell) for runs, cell in wanted.items()}
                left = [each for _, unread in self._cells.values() for each in unread]
                left += [
                    {"what": run.title, "why": f"failed: {run.tags.get('error', '')[:500]}"}
                    for run in failed
                    if run.tags["identity"] not in own
                ]
                made = [told for told, _ in self._cells.values() if told.summary]
                self._board, self._failed = _assemble(made, left, self.runs), reasons
            return self._board

    def _read(self, runs: Sequence[TrackedRun], submitted: Sequence[str]) -> tuple[_Told, list[dict[str, str]]]:
        records, unread = [self._submitted[identity][0] for identity in submitted], []
        for run in runs:
            try:
                records.append(self.store.runs.record(run))
            except UserError as error:
                unread.append({"what": run.title, "why": str(error)})
        cells = build_cells(records, test=self.test)
        # The tags that grouped them are the record's own, unless somebody has changed one.
        if len(cells) > 1:
            unread += [
                {"what": run.title, "why": "the store's tags and the record tell different cells"} for run in runs
            ]
        if len(cells) != 1:
            return _Told({}, "", {}, [], []), unread
        return _told(cells[0], {identity: self._submitted[identity][1] for identity in submitted}), unread


@dataclass(frozen=True)
class _Told:
    """A cell as data: for the list of cells, for its own page, scores for comparisons over cells, and who is not ranked.

    Its records are kept only where the literature has numbers for them. `submitted`: all of its runs are others'.
    """

    summary: dict[str, Any]
    detail: str
    scores: dict[str, dict[str, float]]
    unranked: list[dict[str, str]]
    published: list[RunRecord]
    submitted: bool = False


def _assemble(made: Sequence[_Told], left_out: list[dict[str, str]], runs: str = "") -> Board:
    # Whoever looks sees their own runs first, and what others have submitted below.
    ordered = sorted(made, key=lambda each: (each.submitted, each.summary["title"], each.summary["key"]))
    return Board(
        [each.summary for each in ordered],
        {each.summary["key"]: each.detail for each in ordered},
        _overall(ordered),
        _draws(ordered),
        left_out + [unranked for each in ordered for unranked in each.unranked],
        [list(LEDGER_HEADER), *text_rows(ledger(record for each in ordered for record in each.published))],
        runs,
    )


def _told(cell: Cell, notes: Mapping[str, str]) -> _Told:
    """A cell as data.

    Args:
        cell: of at least one run.
        notes: what is said of runs that were submitted, by identity.
    """
    example = cell.example
    # A store may hold anything; what names a cell in the page and in its address is plain.
    key = hashlib.sha256(f"{cell.label_set} {cell.budget}".encode()).hexdigest()[:20]
    budget, manifest = example.spec["budget"], example.manifest
    noise = {k: v for k, v in example.spec["noise"].items() if k not in ("rate", "seed")}
    summary = {
        "key": key,
        "title": cell.title,
        "dataset": example.dataset,
        "noise": example.noise,
        "network": budget["network"],
        "epochs": budget["epochs"],
        "budget": cell.budget,
        "labels": cell.label_set,
        "rate": manifest["actual_noise_rate"],
        # Cells that differ in nothing but the rate of their noise are points of one line, and those that differ in nothing
        # but its seed are draws of one noise.
        "family": json.dumps([example.dataset, noise, cell.budget], sort_keys=True),
        "draws": json.dumps([example.dataset, noise, example.spec["noise"].get("rate"), cell.budget], sort_keys=True),
        "stacks": len(cell.rows),
        "runs": sum(len(row.records) for row in cell.rows),
        "published": any(row.published for row in cell.rows),
        "scores": {row.stack: [_summary(row.rules[rule]) for rule in RANKED] for row in cell.rows},
    }
    detail = {
        "metric": example.metric,
        "budget": budget,
        "convention": manifest["noise"]["convention"],
        "warnings": list(cell.warnings),
        "test": cell.test,
        "rules": {rule: _ranked(cell, rule) for rule in RANKED},
        "rows": [_row(row, notes) for row in cell.rows],
    }
    few = [
        {"what": f"{cell.title} · {stack}", "why": "not ranked: fewer than two seeds in common with the others"}
        for stack in cell.ranking.untested
        if len(cell.rows) > 1
    ]
    scores = {
        row.stack: {rule: found.mean for rule in RANKED if (found := row.rules[rule]) is not None} for row in cell.rows
    }
    kept = [record for row in cell.rows if row.published for record in row.records]
    submitted = all(record.identity in notes for row in cell.rows for record in row.records)
    return _Told(summary, json.dumps(detail, allow_nan=False), scores, few, kept, submitted)


def _ranked(cell: Cell, rule: str) -> dict[str, Any]:
    """Ranks by one rule, what they rest on, and every pair."""
    ranking = rank_rows(cell.rows, rule, cell.test)
    places = {row.stack: place for place, row in enumerate(cell.rows)}
    pairs = [
        [
            places[pair.first], places[pair.second],
            *(_short(each) for each in (pair.difference, pair.low, pair.high, pair.p, pair.p_permutation, pair.p_wilcoxon)),
            pair.more_seeds,
        ]
        for pair in compare(seed_values(cell.rows, rule), ranking, cell.test)
    ]  # fmt: skip
    told = footnote(Cell(**{**vars(cell), "rule": rule, "ranking": ranking}))
    return {"ranks": [ranking.ranks.get(row.stack) for row in cell.rows], "footnote": told, "pairs": pairs}


def _row(row: Row, notes: Mapping[str, str]) -> dict[str, Any]:
    return {
        "stack": row.stack,
        "privileged": list(row.privileged),
        "seeds": len(row.records),
        **{rule: _summary(row.rules[rule]) for rule in SELECTION_RULES},
        "gap": _summary(row.gap),
        "detection": _summary(row.detection),
        "outsiders": _summary(row.outsiders),
        "shifted": _summary(row.shifted),
        "memorized_fraction": _summary(row.memorized_fraction),
        "calibration_error": _summary(row.calibration_error),
        "seconds": _summary(row.seconds),
        "published": [
            [each.value, each.deviation, each.protocol, each.architecture, each.method, each.source]
            for each in row.published
        ],
        "curves": {name: _curve(row, name) for name in CURVES},
        "epochs": len([each for each in row.records[0].rows if each.stage == "train"]),
        "roc": _roc(row),
        "runs": [
            [
                each.seed,
                each.run_id,
                *(_short(row.scores[rule][place]) for rule in SELECTION_RULES),
                notes.get(each.identity, ""),
            ]
            for place, each in enumerate(row.records)
        ],
        "verified": _verified(row, notes),
    }


def _verified(row: Row, notes: Mapping[str, str]) -> str:
    """The least that is verified of a row's runs; those of the store at hand were measured here."""
    found = {notes.get(each.identity, "measured here").split(" (")[0] for each in row.records}
    return next(each for each in ("claimed", "re-scored", "re-run", "measured here") if each in found)


def _short(value: float | None) -> float | None:
    # Fewer digits would round twice where the page rounds again.
    return None if value is None else round(value, 7)


def _summary(summary: Summary | None) -> list[float | None] | None:
    """Mean, standard deviation, and the ends of the 95 % interval."""
    if summary is None:
        return None
    return [_short(each) for each in (summary.mean, summary.deviation, summary.low, summary.high)]


def _curve(row: Row, name: str) -> list[list[float]]:
    """Epoch and mean over seeds, thinned to `POINTS`; without epochs at which a seed has no value."""
    runs = [[getattr(each, name) for each in record.rows if each.stage == "train"] for record in row.records]
    points = [(epoch, [run[epoch] for run in runs]) for epoch in _shown_epochs(min(len(run) for run in runs))]
    return [[epoch, round(math.fsum(point) / len(point), 4)] for epoch, point in points if None not in point]


@functools.cache
def _shown_epochs(count: int) -> list[int]:
    """At most `POINTS` of so many epochs, evenly spaced."""
    chosen: list[int] = np.unique(np.linspace(0, count - 1, min(count, POINTS)).round().astype(int)).tolist()
    return chosen


def _roc(row: Row) -> list[float] | None:
    """Mean over seeds of the true positive rates; None where a run has none."""
    curves = [each.detection.roc for each in row.records]
    known = [each for each in curves if each is not None]
    return [round(float(each), 4) for each in np.mean(known, axis=0)] if len(known) == len(curves) else None


def _overall(made: Sequence[_Told]) -> list[dict[str, Any]]:
    """Groups of cells that have budget and stacks in common, by each rule."""
    groups: dict[tuple[str, frozenset[str]], list[_Told]] = {}
    for each in made:
        groups.setdefault((each.summary["budget"], frozenset(each.scores)), []).append(each)
    found = []
    for (budget, stacks), cells in groups.items():
        ranked = {}
        for rule in RANKED:
            if all(rule in each.scores[stack] for each in cells for stack in stacks):
                ranked[rule] = over_cells(
                    {stack: [each.scores[stack][rule] for each in cells] for stack in sorted(stacks)}
                )
        told = {
            rule: {"ranks": each.average_ranks, "p": each.p, "difference": each.critical_difference}
            for rule, each in ranked.items()
            if each is not None
        }
        if told:
            first = cells[0].summary
            found.append({
                "title": f"{', '.join(sorted({each.summary['dataset'] for each in cells}))} · {first['network']}, "
                f"{first['epochs']} epochs",
                "budget": budget,
                "cells": [each.summary["key"] for each in cells],
                "rules": told,
            })  # fmt: skip
    return sorted(found, key=lambda each: (each["title"], each["budget"]))


def _draws(made: Sequence[_Told]) -> list[dict[str, Any]]:
    """Stacks over several draws of the same noise, each draw a block: the mean over its seeds counts as one value.

    Seeds of one draw share its wrong labels, so they are no independent evidence about another draw.
    """
    groups: dict[str, list[_Told]] = {}
    for each in made:
        groups.setdefault(each.summary["draws"], []).append(each)
    found = []
    for cells in (each for each in groups.values() if len({cell.summary["labels"] for cell in each}) > 1):
        ranked = {}
        for rule in RANKED:
            values = {
                stack: {draw: cell.scores[stack][rule] for draw, cell in enumerate(cells)}
                for stack in sorted(set.intersection(*(set(cell.scores) for cell in cells)))
                if all(rule in cell.scores[stack] for cell in cells)
            }
            ranking = rank(values)
            if ranking.ranks:
                best = sorted(values, key=lambda stack: -sum(values[stack].values()))
                ranked[rule] = {
                    "rows": [
                        [ranking.ranks[stack], stack, _summary(summarise(list(values[stack].values())))]
                        for stack in best
                    ],
                    "detectable": _short(ranking.detectable),
                }
        if ranked:
            first = cells[0].summary
            title = f"{first['title']} · {first['network']}, {first['epochs']} epochs"
            found.append({"title": title, "cells": [cell.summary["key"] for cell in cells], "rules": ranked})
    return found
