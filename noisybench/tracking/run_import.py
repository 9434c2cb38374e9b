"""Import the items of exports into a store: checked first, then added one by one, each as a whole."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic

from noisybench.config.spec import run_identity
from noisybench.errors import StoreUnavailable, UserError
from noisybench.records.equivalence import Equivalence
from noisybench.records.schema import RunRecord
from noisybench.records.validation import parse_record
from noisybench.tracking.bundle import Item
from noisybench.tracking.bundle_reader import Bundle
from noisybench.tracking.connection import _wrap_connection_errors
from noisybench.tracking.equivalences import FILE
from noisybench.tracking.reader import MAX_RECORD_BYTES
from noisybench.tracking.run_content import CONTENT_FILE, RunContent, end_content, find_run, read_content, start_content
from noisybench.tracking.run_export import ARTIFACTS
from noisybench.tracking.run_folders import add_auxiliary, add_folder, check_auxiliary, check_folder, is_training
from noisybench.tracking.store import Store, upload_files
from noisybench.tracking.suite_runs import find_suite_run
from noisybench.utils.progress import with_progress

MAX_CHECKPOINT_BYTES = 2**36
"""Largest checkpoint that is read."""

RECORD = f"{ARTIFACTS}/record.json"
EQUIVALENCE = f"{ARTIFACTS}/{FILE}"
TAGS_OF_RECORD: Mapping[str, Callable[[RunRecord], str]] = {
    "identity": lambda record: record.identity,
    "settings": lambda record: record.settings,
    "code": lambda record: json.dumps(record.code, sort_keys=True),
    "stack": lambda record: record.stack,
    "budget": lambda record: record.budget,
    "label_set": lambda record: record.label_set,
}
"""Tags of a finished run that must agree with its record."""


@dataclass
class ImportResult:
    """Outcome of an import.

    Attributes:
        added: items that were added.
        present: number of items that were in the store before.
        records: records of the finished runs that were added.
        problems: why items were not added although the files are intact.
    """

    added: list[Item] = field(default_factory=list)
    present: int = 0
    records: list[RunRecord] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass
class _Checked:
    """Content of a complete item that has passed all checks."""

    item: Item
    content: RunContent | None = None
    record: RunRecord | None = None
    epochs: int = 0

    @property
    def record_digest(self) -> str | None:
        return self.item.files.get(RECORD)


class Importer:
    """Adds the items of verified exports to a store and to a workspace.

    Args:
        store: the store; it is created if needed.
        bundle: verified files.
        workspace: folder for checkpoints and results of auxiliary runs.

    Raises:
        UserError: an item is invalid. Nothing has been added then.
    """

    def __init__(self, store: Store, bundle: Bundle, workspace: Path) -> None:
        self.connection, self._runs = store.connection, store.runs
        self._bundle, self._workspace = bundle, workspace
        self._result = ImportResult()
        self._ids: dict[str, str] = {}
        self._finished_ids: dict[str, str] = {}
        self._checked: list[_Checked] = []
        for item in with_progress(bundle.items, "check items", len(bundle.items)):
            missing = bundle.missing_parts(item)
            if missing is None:
                self._checked.append(self._check(item))
            else:
                self._result.problems.append(
                    f"{item.title} ({item.id}) is not complete: import this file together with {missing or 'the others'}"
                )

    @_wrap_connection_errors
    def add(self) -> ImportResult:
        """Add all items that are not there yet, in an order in which parents come first.

        Raises:
            UserError: the disk is full or the store refuses a run. Items before it have been added, and the same import
                can be repeated.
        """
        from mlflow.exceptions import MlflowException

        self.connection.check()
        self._check_space()
        # Digest of the record of every finished run by identity. Runs whose record cannot be read do not count.
        self._finished = self._finished_records()
        ordered = sorted(self._checked, key=self._order)
        for checked in with_progress(ordered, "import items", len(ordered)):
            try:
                added = self._add(checked)
            except OSError as error:
                count = len(self._result.added)
                before = "1 item before it was" if count == 1 else f"{count} items before it were"
                raise UserError(
                    f"{checked.item.title} cannot be imported: {error.strerror or error}; {before} imported, and the same "
                    "command continues"
                ) from None
            except MlflowException as error:
                if error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"):
                    raise
                raise UserError(f"{checked.item.title} is refused by the store: {str(error).splitlines()[0]}") from None
            if added:
                self._result.added.append(checked.item)
                self._result.records += [checked.record] if checked.record is not None else []
        return self._result

    @staticmethod
    def _order(checked: _Checked) -> int:
        if checked.content is None:
            return 2
        return 0 if checked.content.parent is None else 1

    def _check(self, item: Item) -> _Checked:
        """Check an item by itself.

        Raises:
            UserError: it is invalid.
        """
        try:
            if item.kind == "checkpoint":
                return _Checked(item, epochs=check_folder(item, lambda path: self._read(item, path)))
            if item.kind == "auxiliary":
                return _Checked(item, epochs=check_auxiliary(item, lambda path: self._read(item, path)))
            return self._check_run(item)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False)[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        except ValueError as error:
            reason = str(error)
        raise UserError(f"{item.title} ({item.id}) is refused: {reason}. Nothing was imported")

    def _check_run(self, item: Item) -> _Checked:
        if CONTENT_FILE not in item.files:
            raise ValueError(f"it lacks {CONTENT_FILE}")
        for path in item.files:
            if path != CONTENT_FILE and not path.startswith(f"{ARTIFACTS}/"):
                raise ValueError(f"unexpected file {path}")
        content = RunContent.model_validate_json(self._read(item, CONTENT_FILE, MAX_RECORD_BYTES))
        if content.tag("identity") is None:
            if content.tag("equivalence") is not None:
                Equivalence.model_validate_json(self._read(item, EQUIVALENCE, MAX_RECORD_BYTES))
            elif all(content.tag(name) is None for name in ("study", "auxiliary", "suite_key")):
                raise ValueError("it is no run of noisybench: it has none of its tags")
            return _Checked(item, content)
        if content.status != "FINISHED":
            return _Checked(item, content)
        record = parse_record(self._read(item, RECORD, MAX_RECORD_BYTES))
        for name, value in TAGS_OF_RECORD.items():
            if (content.tag(name) or "") != value(record):
                raise ValueError(f"its tag {name} is not that of its record")
        # A made-up identity could take the place of a run that is not trained yet, which would then be skipped.
        if record.identity != run_identity(record.settings, record.code):
            raise ValueError("its identity is not that of its settings and code")
        return _Checked(item, content, record)

    def _read(self, item: Item, path: str, limit: int = MAX_CHECKPOINT_BYTES) -> bytes:
        if path not in item.files:
            raise ValueError(f"it lacks {path}")
        return self._bundle.read(item.files[path], limit)

    def _check_space(self) -> None:
        folder = self.connection.database.parent if self.connection.embedded else Path()
        free = shutil.disk_usage(folder).free
        if self._bundle.size > free:
            raise UserError(
                f"the contents have {self._bundle.size:,} bytes, but {folder.absolute()} has {free:,} free; nothing was "
                "imported"
            )

    def _finished_records(self) -> dict[str, set[str]]:
        identities = {c.record.identity for c in self._checked if c.record is not None}
        digests: dict[str, set[str]] = {}
        for run in self._runs.list_runs("FINISHED"):
            if run.tags["identity"] not in identities | self._unfinished_identities():
                continue
            try:
                self._runs.record(run)
                with self._runs.open_file(run, "record.json") as path:
                    assert path is not None
                    digest = hashlib.sha256(path.read_bytes()).hexdigest()
            except StoreUnavailable:
                raise
            except UserError:
                continue
            digests.setdefault(run.tags["identity"], set()).add(digest)
            self._finished_ids[run.tags["identity"]] = run.run_id
        return digests

    def _unfinished_identities(self) -> set[str]:
        return {
            str(checked.content.tag("identity") if checked.content is not None else checked.item.id)
            for checked in self._checked
            if checked.record is None
        }

    def _add(self, checked: _Checked) -> bool:
        """Add an item, and return False if nothing was added; the reason is counted or listed in the result."""
        item = checked.item
        if checked.content is not None:
            return self._add_run(item, checked.content, checked)
        if item.kind == "auxiliary":
            added = add_auxiliary(item, lambda path: self._read(item, path), self._workspace, checked.epochs)
        elif item.id in self._finished:
            added = False
        else:
            run_id = self._run_id(item)
            added = add_folder(item, lambda path: self._read(item, path), self._workspace, run_id, checked.epochs)
        if added is None:
            self._result.problems.append(f"{item.title} is being trained here; stop it, then import it again")
        elif not added:
            self._result.present += 1
        return bool(added)

    def _run_id(self, item: Item) -> str | None:
        if "run_id" not in item.files:
            return None
        exported = self._read(item, "run_id").decode().strip()
        return self._ids.get(exported, exported)

    def _add_run(self, item: Item, content: RunContent, checked: _Checked) -> bool:
        identity, record = content.tag("identity"), checked.record
        existing = find_run(self.connection, item.id)
        if existing is None and (key := content.tag("suite_key")) is not None:
            existing = find_suite_run(self.connection, key)
        if existing is not None:
            self._ids[item.id] = existing[0]
        is_trial = content.tag("trial_of") is not None
        if identity is not None and not is_trial and identity in self._finished:
            # An unfinished run is obsolete where it has been finished.
            if record is None or checked.record_digest in self._finished[identity]:
                self._result.present += 1
                return False
            self._result.problems.append(
                f"{content.name} ({identity}) is here with another record, which stays; to import this one, delete that run: "
                f"mlflow runs delete --run-id {self._finished_ids[identity]}"
            )
            return False
        if existing is not None and self._is_present(existing, content, record):
            self._result.present += 1
            return False
        if identity is not None and record is None and is_training(self._workspace, identity):
            self._result.problems.append(f"{content.name} is being trained here; stop it, then import it again")
            return False
        run_id = start_content(self.connection, item.id, content, self._ids)
        self._ids[item.id] = run_id
        self._upload(run_id, item)
        # The status comes last: a run that is FINISHED has all its values and files, wherever the process dies.
        end_content(self.connection, run_id, content)
        if record is not None and not is_trial:
            self._finished.setdefault(record.identity, set()).add(str(checked.record_digest))
            self._finished_ids[record.identity] = run_id
        return True

    def _is_present(self, existing: tuple[str, str], content: RunContent, record: RunRecord | None) -> bool:
        """Return True if a run with this id needs nothing from an item."""
        run_id, status = existing
        if status == "FINISHED":
            # A trial, study, auxiliary run or equivalence; or a finished run whose record here is damaged.
            return record is None or content.tag("trial_of") is not None
        if content.status == "FINISHED" or status == "RUNNING":
            return False
        known = read_content(self.connection, run_id)
        return all(set(values) <= set(known.metrics.get(key, ())) for key, values in content.metrics.items())

    def _upload(self, run_id: str, item: Item) -> None:
        files: dict[str, Any] = {
            path.removeprefix(f"{ARTIFACTS}/"): sha256 for path, sha256 in item.files.items() if path != CONTENT_FILE
        }
        target = self.connection.artifact_folder(run_id)
        if target is not None:
            for path, sha256 in files.items():
                self._bundle.write(sha256, target / path)
        elif files:
            with tempfile.TemporaryDirectory(prefix="noisybench-") as folder:
                for path, sha256 in files.items():
                    self._bundle.write(sha256, Path(folder) / path)
                upload_files(self.connection, run_id, Path(folder).iterdir())
