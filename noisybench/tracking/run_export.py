"""Collect the items of an export: finished runs with all that belongs to them, and unfinished ones on request."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from noisybench.errors import StoreUnavailable, UserError
from noisybench.tracking.bundle import Draft, Kind
from noisybench.tracking.connection import _wrap_connection_errors
from noisybench.tracking.models import FOLDER, MAX_SMALL_BYTES, WEIGHTS
from noisybench.tracking.reader import TrackedRun
from noisybench.tracking.run_content import CONTENT_FILE, read_content
from noisybench.tracking.run_folders import auxiliary_drafts, folder_draft, held_folders
from noisybench.tracking.store import Store
from noisybench.utils.progress import with_progress

ARTIFACTS = "artifacts"
"""Folder of an item that holds the files of a run."""


MAX_EXPORTED_MODEL_BYTES = MAX_SMALL_BYTES * 3 // 2
"""Size of the largest file of weights that an export holds: every small model, with the overhead of its file."""


class Exporter:
    """Collects the items of an export.

    Args:
        store: the store.
        downloads: folder for files of a tracking server.
        matches: returns True for runs to export.

    Attributes:
        notes: why runs were left out.
    """

    def __init__(self, store: Store, downloads: Path, matches: Callable[[TrackedRun], bool]) -> None:
        self.connection, self._runs = store.connection, store.runs
        self._downloads, self._matches = downloads, matches
        self.notes: list[str] = []
        self._parent_ids = set[str]()

    @_wrap_connection_errors
    def finished(self) -> list[Draft]:
        """Return the latest run of every finished identity, studies with their trials, and recorded equivalences.

        Auxiliary runs of these runs follow them.
        """
        stored = self._runs.read()
        self.notes += [each.reason for each in stored.excluded]
        readable = {record.run_id for record in stored.records}
        finished = self._runs.list_all("FINISHED")
        # The latest run comes first; in reverse order it replaces earlier runs of its identity.
        latest = {run.tags["identity"]: run for run in reversed(finished) if run.run_id in readable}
        selected = [run for run in latest.values() if self._matches(run)]
        trials = [run for run in finished if "trial_of" in run.tags and self._matches(run) and self._is_readable(run)]
        parents = self._parents([*trials, *selected])
        equivalences = [run for run in finished if "equivalence" in run.tags]
        runs = (*parents, *trials, *selected, *equivalences)
        drafts = [self._draft(run) for run in with_progress(runs, "read runs", len(runs))]
        return [*drafts, *self._auxiliary({draft.id for draft in drafts})]

    @contextlib.contextmanager
    def unfinished(self, workspace: Path) -> Iterator[list[Draft]]:
        """Yield the folders of interrupted runs, their runs in the store, and all results of auxiliary runs.

        Runs that are being trained are left out. The others cannot start while the block executes.

        Args:
            workspace: folder with `runs` and `auxiliary`.
        """
        with held_folders(workspace, self.notes) as folders:
            yield [*self._unfinished(folders), *auxiliary_drafts(workspace, self.notes)]

    @_wrap_connection_errors
    def _unfinished(self, folders: list[Path]) -> list[Draft]:
        unfinished = {
            run.run_id: run
            for status in ("RUNNING", "KILLED", "FAILED")
            for run in self._runs.list_all(status)
            if "identity" in run.tags
        }
        tracked, drafts = list[TrackedRun](), list[Draft]()
        for folder in folders:
            run_id = folder / "run_id"
            run = unfinished.get(run_id.read_text(encoding="utf-8", errors="replace")) if run_id.is_file() else None
            if run is not None and not self._matches(run):
                continue
            if run is not None:
                tracked.append(run)
            drafts.append(folder_draft(folder, run.title if run is not None else folder.name))
        runs = [self._draft(run) for run in (*self._parents(tracked), *tracked)]
        return [*runs, *self._auxiliary({draft.id for draft in runs}), *drafts]

    def _is_readable(self, run: TrackedRun) -> bool:
        try:
            self._runs.record(run)
        except StoreUnavailable:
            raise
        except UserError as error:
            self.notes.append(str(error))
            return False
        return True

    def _parents(self, runs: Sequence[TrackedRun]) -> list[TrackedRun]:
        """Return the parent runs of trials and of runs of suites, once; also studies that are still searching."""
        ids = {run.tags[tag] for run in runs for tag in ("trial_of", "suite_run") if tag in run.tags}
        ids -= self._parent_ids
        self._parent_ids |= ids
        statuses = ("FINISHED", "RUNNING", "KILLED", "FAILED")
        return [run for status in statuses for run in self._runs.list_all(status) if run.run_id in ids]

    def _auxiliary(self, parents: set[str]) -> list[Draft]:
        """Return the finished auxiliary runs of these runs."""
        drafts = []
        for run in self._runs.list_all("FINISHED"):
            # The tag of a run itself names the auxiliary run that it trained.
            if "auxiliary" in run.tags and "identity" not in run.tags:
                content = read_content(self.connection, run.run_id)
                if content.parent in parents:
                    drafts.append(self._draft(run))
        return drafts

    def _draft(self, run: TrackedRun) -> Draft:
        content = read_content(self.connection, run.run_id)
        try:
            files = self._runs.files(run, self._downloads)
        except OSError as error:
            raise UserError(f"the files of run {run.run_id} ({run.title}) cannot be read: {error}") from None
        weights = files.get(f"{FOLDER}/{WEIGHTS}")
        if weights is not None and weights.stat().st_size > MAX_EXPORTED_MODEL_BYTES:
            files = {name: path for name, path in files.items() if not name.startswith(f"{FOLDER}/")}
            self.notes.append(
                f"the model of run {run.run_id} ({run.title}) is left out, since it takes {weights.stat().st_size / 2**20:.0f} "
                "MiB; save it with nb.load_model(RUN).save(FOLDER)"
            )
        artifacts = {f"{ARTIFACTS}/{name}": path for name, path in files.items()}
        kind: Kind = "suite" if "suite_key" in run.tags else "run"
        return Draft(kind, run.run_id, run.title, {CONTENT_FILE: content.model_dump_json().encode(), **artifacts})
