"""The data of the leaderboard page, computed from a store and the measurements that ship with noisybench.

Records are read and reduced one setting at a time, so that memory does not grow with the store, and a setting is read again only
when its runs have changed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from noisybench.errors import StoreUnavailable, UserError
from noisybench.leaderboard.installed_code import InstalledCode
from noisybench.leaderboard.measurements import Measurement, measure_valid
from noisybench.leaderboard.pair_model import Test
from noisybench.leaderboard.payload import SettingPayload, setting_payload
from noisybench.leaderboard.sections import SectionInput, build_sections
from noisybench.leaderboard.table import build_settings
from noisybench.records.equivalence import Equivalence, builtin_equivalences
from noisybench.tracking.equivalences import EquivalenceStore
from noisybench.tracking.reader import TrackedRun
from noisybench.tracking.store import Store
from noisybench.utils.garbage import collection_paused


@dataclass(frozen=True)
class Board:
    """All settings, and comparisons across them.

    Attributes:
        settings: what the list of settings shows of each, in its order; ``key`` names its detail.
        details: JSON text of a setting's table, curves and pairs, by key.
        sections: data of the other views by name, see `sections.SECTIONS`.
        excluded: runs and stacks that are in no table or not ranked there, with the reason.
        runs_url: address at which MLflow shows a run, without its identifier; empty without MLflow.
    """

    settings: list[dict[str, Any]]
    details: dict[str, str]
    sections: dict[str, Any]
    excluded: list[dict[str, str]]
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
        >>> from noisybench.leaderboard.measurement_tables import builtin_measurements
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
        # The imports and records of a large board have no reference cycles.
        with self._lock, collection_paused():
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
    return Board(
        [payload.summary for payload in ordered],
        {payload.summary["key"]: payload.detail for payload in ordered},
        build_sections(SectionInput(ordered, equivalences)),
        excluded + [reason for payload in ordered for reason in payload.excluded],
        runs_url,
    )
