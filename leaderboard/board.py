"""The data of the leaderboard page, computed from a store and the measurements that ship with noisybench.

Records are read and reduced one setting at a time, so that memory does not grow with the store, and a setting is read again only
when its runs have changed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from noisybench.errors import StoreUnavailable, UserError
from noisybench.leaderboard.fidelity_rows import card_rows, license_rows
from noisybench.leaderboard.installed_code import InstalledCode
from noisybench.leaderboard.measurements import Measurement, measure_valid
from noisybench.leaderboard.pair_model import Test
from noisybench.leaderboard.payload import SettingPayload, setting_payload, short, short_summary
from noisybench.leaderboard.reproduction import COLUMNS as REPRODUCTION_COLUMNS
from noisybench.leaderboard.reproduction import reproduce, text_rows
from noisybench.leaderboard.statistics import FriedmanResult, compare_across_settings, rank, summarize
from noisybench.leaderboard.stress import StressPoint, stress_tables
from noisybench.leaderboard.stress_text import payload as stress_payload
from noisybench.leaderboard.table import build_settings
from noisybench.leaderboard.text_tables import describe_detectable
from noisybench.leaderboard.verdict import RANKING_RULES, SettingScores, reach_verdicts
from noisybench.leaderboard.verdict_text import verdict_payload
from noisybench.records.equivalence import Equivalence, builtin_equivalences
from noisybench.tracking.equivalences import EquivalenceStore
from noisybench.tracking.reader import TrackedRun
from noisybench.tracking.store import Store


@dataclass(frozen=True)
class Board:
    """All settings, and comparisons across them.

    Attributes:
        settings: what the list of settings shows of each, in its order; ``key`` names its detail.
        details: JSON text of a setting's table, curves and pairs, by key.
        verdicts: verdict over the settings of each group, by ranking rule.
        across_settings: comparisons of stacks over several settings.
        noise_draws: comparisons of stacks over several draws of one noise.
        stress: stress cards of each dataset, budget and noise model, by ranking rule.
        excluded: runs and stacks that are in no table or not ranked there, with the reason.
        reproduction: published results beside ours, as rows of text below their header.
        cards: fidelity card of each mitigation, noise model and metric that the board shows, as rows of text: kind, name,
            reference, what was compared, largest difference, deviations.
        licenses: license and access of each dataset, and of labels that others have made, as rows of text.
        runs_url: address at which MLflow shows a run, without its identifier; empty without MLflow.
    """

    settings: list[dict[str, Any]]
    details: dict[str, str]
    verdicts: list[dict[str, Any]]
    across_settings: list[dict[str, Any]]
    noise_draws: list[dict[str, Any]]
    stress: list[dict[str, Any]]
    excluded: list[dict[str, str]]
    reproduction: list[list[str]]
    cards: list[list[str]]
    licenses: list[list[str]]
    runs_url: str = ""


def build_board(
    measurements: Iterable[Measurement],
    test: Test = "moderated_t",
    equivalences: Sequence[Equivalence] = (),
    excluded: Sequence[dict[str, str]] = (),
) -> Board:
    """Return the board of measurements.

    Args:
        measurements: finished runs.
        test: paired test, see `statistics.rank`.
        equivalences: recorded equivalences of code.
        excluded: runs that have no measurement, as ``what`` and ``why``.

    Example:
        >>> from noisybench.leaderboard.measurements import builtin_measurements
        >>> board = build_board(builtin_measurements())
        >>> len(board.settings) == len(board.details)
        True
    """
    settings = build_settings(measurements, test=test, equivalences=equivalences)
    return _build_board([setting_payload(setting) for setting in settings], list(excluded), equivalences)


SettingKey = tuple[str, str]
"""Label set and budget."""


@dataclass
class BoardCache:
    """The board of a store, updated as runs are added.

    Attributes:
        store: store that is read.
        runs_url: see `Board`.
        test: paired test, see `statistics.rank`.
        measured: measurements of submissions, shown beside the store's own runs.
    """

    store: Store
    runs_url: str = ""
    test: Test = "moderated_t"
    measured: Sequence[Measurement] = ()
    _payloads: dict[frozenset[str], tuple[SettingPayload | None, list[dict[str, str]]]] = field(default_factory=dict)
    _board: Board | None = None
    _failed: frozenset[str] = frozenset()
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._submitted: dict[SettingKey, list[Measurement]] = {}
        for measurement in self.measured:
            key = (measurement.setting.label_set, measurement.setting.budget)
            self._submitted.setdefault(key, []).append(measurement)

    def board(self) -> Board:
        """Return the current board of the store; the same object while nothing has changed."""
        # The server handles requests in several threads: without the lock, each would read the same records again.
        with self._lock:
            failed = self.store.runs.list_runs("FAILED")
            finished: dict[SettingKey, dict[str, TrackedRun]] = {}
            for run in self.store.runs.list_runs("FINISHED"):
                runs = finished.setdefault((run.tags.get("label_set", ""), run.tags.get("budget", "")), {})
                runs.setdefault(run.tags["identity"], run)  # the store lists the latest run of an identity first
            equivalence_store = EquivalenceStore(self.store)
            recorded = equivalence_store.read()
            # Read for each request, because the sources may change while a server runs.
            installed = InstalledCode()
            # These identify the data of a setting: if they are unchanged, so is its payload.
            state = [installed.fingerprint, *recorded, *equivalence_store.unreadable]
            settings = {
                frozenset([*key, *state, *(run.run_id for run in finished.get(key, {}).values())]): (
                    list(finished.get(key, {}).values()),
                    self._submitted.get(key, []),
                )
                for key in finished.keys() | self._submitted.keys()
            }
            failed_ids = frozenset(run.run_id for run in failed)
            if self._board is None or settings.keys() != self._payloads.keys() or failed_ids != self._failed:
                # A cached pair is true even without a payload, so a setting that cannot be shown is not read again.
                # Keys of settings that have changed are dropped, which keeps the memory of a running server bounded.
                equivalences = [*builtin_equivalences(), *recorded.values()]
                self._payloads = {
                    runs: self._payloads.get(runs) or self._read(*sources, equivalences, installed)
                    for runs, sources in settings.items()
                }
                settled = {run.tags.get("settings") for runs in finished.values() for run in runs.values()}
                excluded = [reason for _, unreadable in self._payloads.values() for reason in unreadable]
                excluded += [
                    {"what": "equivalence of code", "why": reason} for reason in equivalence_store.unreadable.values()
                ]
                # A failure is not listed once another run with the same settings has finished, perhaps by mended code.
                excluded += [
                    {"what": run.title, "why": f"failed: {run.tags.get('error', '')[:500]}"}
                    for run in failed
                    if run.tags.get("settings") not in settled
                ]
                payloads = [payload for payload, _ in self._payloads.values() if payload is not None]
                self._board = _build_board(payloads, excluded, equivalences, self.runs_url)
                self._failed = failed_ids
            return self._board

    def _read(
        self,
        runs: Sequence[TrackedRun],
        submitted: Sequence[Measurement],
        equivalences: Sequence[Equivalence],
        installed: InstalledCode,
    ) -> tuple[SettingPayload | None, list[dict[str, str]]]:
        """Read the records of one setting, and return its data and the runs that cannot be shown."""
        measurements, unreadable = list(submitted), []
        for run in runs:
            try:
                measured, unusable = measure_valid([self.store.runs.record(run)], installed)
            except StoreUnavailable:
                raise
            except UserError as error:
                measured, unusable = [], [{"what": run.title, "why": str(error)}]
            measurements += measured
            unreadable += unusable
        settings = build_settings(measurements, test=self.test, equivalences=equivalences)
        # The tags that grouped the runs repeat fields of the record, unless they have been edited in MLflow.
        if len(settings) > 1:
            reason = "the tags of the run in MLflow contradict its record"
            unreadable += [{"what": run.title, "why": reason} for run in runs]
        return (setting_payload(settings[0]) if len(settings) == 1 else None), unreadable


def _build_board(
    payloads: Sequence[SettingPayload],
    excluded: list[dict[str, str]],
    equivalences: Sequence[Equivalence] = (),
    runs_url: str = "",
) -> Board:
    # The user's own settings come first, those with submitted runs only come last.
    ordered = sorted(payloads, key=lambda payload: (payload.is_submitted, payload.sort_key))
    published = [measurement for payload in ordered for measurement in payload.published]
    return Board(
        [payload.summary for payload in ordered],
        {payload.summary["key"]: payload.detail for payload in ordered},
        _verdicts([payload.seed_scores for payload in ordered]),
        _across_settings(ordered),
        _noise_draws(ordered),
        _stress([payload.stress for payload in ordered if payload.stress is not None]),
        excluded + [reason for payload in ordered for reason in payload.excluded],
        [list(REPRODUCTION_COLUMNS), *text_rows(reproduce(published, equivalences))],
        card_rows([payload.summary for payload in ordered]),
        license_rows([payload.summary for payload in ordered]),
        runs_url,
    )


def _stress(points: Sequence[StressPoint]) -> list[dict[str, Any]]:
    """Return the stress cards under each noise model, by each ranking rule that has some."""
    groups: dict[str, dict[str, Any]] = {}
    for rule in RANKING_RULES:
        for table in stress_tables(points, rule):
            group = groups.setdefault(f"{table.title} {table.budget}", {"title": table.title, "rules": {}})
            group["rules"][rule] = stress_payload(table)
    return list(groups.values())


def _verdicts(label_sets: Sequence[SettingScores]) -> list[dict[str, Any]]:
    """Return the verdict of each group of settings, by each ranking rule that has one."""
    groups: dict[tuple[str, frozenset[str]], dict[str, Any]] = {}
    for rule in RANKING_RULES:
        for verdict in reach_verdicts(label_sets, rule):
            group = groups.setdefault(
                (verdict.title, frozenset(verdict.settings)),
                {"title": verdict.title, "settings": list(verdict.settings), "rules": {}},
            )
            group["rules"][rule] = verdict_payload(verdict)
    return list(groups.values())


def _across_settings(payloads: Sequence[SettingPayload]) -> list[dict[str, Any]]:
    """Compare stacks over settings that share budget and stacks, by each ranking rule."""
    # Friedman's test needs a complete table of stacks and settings, and each stack has the same code in all of them.
    groups: dict[tuple[str, frozenset[tuple[str, str]]], list[SettingPayload]] = {}
    for payload in payloads:
        groups.setdefault((payload.summary["budget"], frozenset(payload.seed_scores.codes.items())), []).append(payload)
    comparisons = []
    for (budget, codes), members in groups.items():
        stacks = {stack for stack, _ in codes}
        rules = {}
        for rule in RANKING_RULES:
            # A rule without a value in one setting would leave a hole in the table, as without a validation split.
            if all(rule in member.scores[stack] for member in members for stack in stacks):
                result = compare_across_settings(
                    {stack: [member.scores[stack][rule] for member in members] for stack in sorted(stacks)}
                )
                if result is not None:
                    rules[rule] = {
                        "ranks": result.average_ranks,
                        "p": result.p,
                        "difference": result.critical_difference,
                        "unseparable": _unseparable(result),
                    }
        if rules:
            first = members[0].summary
            datasets = ", ".join(sorted({member.summary["dataset"] for member in members}))
            comparisons.append({
                "title": f"{datasets} · {first['network']}, {first['epochs']} epochs",
                "budget": budget,
                "settings": [member.summary["key"] for member in members],
                "rules": rules,
            })  # fmt: skip
    return sorted(comparisons, key=lambda comparison: (comparison["title"], comparison["budget"]))


def _unseparable(result: FriedmanResult) -> str:
    """Return why no two stacks of a comparison could be separated; empty if they could."""
    if result.settings >= result.min_settings:
        return ""
    return (
        f"Not drawn: with {len(result.average_ranks)} stacks and {result.settings} settings the critical difference is above "
        f"the largest possible difference of average ranks, {len(result.average_ranks) - 1}. "
        f"At least {result.min_settings} settings are needed."
    )


def _mean(values: Mapping[int, float]) -> float:
    return sum(values.values()) / len(values)


def _noise_draws(payloads: Sequence[SettingPayload]) -> list[dict[str, Any]]:
    """Compare stacks over several draws of the same noise, with one mean over seeds per draw.

    Seeds of one draw share its incorrect labels, so they are no independent evidence about another draw.
    """
    groups: dict[str, list[SettingPayload]] = {}
    for payload in payloads:
        groups.setdefault(payload.summary["draws"], []).append(payload)
    comparisons = []
    for members in groups.values():
        if len({member.summary["labels"] for member in members}) < 2:
            continue
        rules = {}
        for rule in RANKING_RULES:
            # Draws take the place of seeds as the blocks of the paired test.
            values = {
                stack: {draw: member.scores[stack][rule] for draw, member in enumerate(members)}
                for stack in sorted(set.intersection(*(set(member.scores) for member in members)))
                if all(rule in member.scores[stack] for member in members)
                # The mean over draws is a mean of runs of one code.
                and len({member.summary["codes"][stack] for member in members}) == 1
            }
            ranking = rank(values)
            if ranking.ranks:
                # All stacks have a value for every draw, so sums order them as means would.
                best_first = sorted(values, key=lambda stack: -sum(values[stack].values()))
                rules[rule] = {
                    "rows": [
                        [
                            ranking.ranks[stack],
                            stack,
                            short_summary(summarize(list(values[stack].values()), is_fraction=True)),
                            [short(score) for score in values[stack].values()],
                        ]
                        for stack in best_first
                    ],
                    "detectable": describe_detectable(ranking, max(map(_mean, values.values()))),
                }
        if rules:
            first = members[0].summary
            title = f"{members[0].sort_key[0]} · {first['network']}, {first['epochs']} epochs"
            keys = [member.summary["key"] for member in members]
            comparisons.append({"title": title, "settings": keys, "rules": rules})
    return comparisons
