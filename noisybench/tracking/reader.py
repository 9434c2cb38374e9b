"""Read runs from an MLflow store."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisybench.errors import StoreUnavailable, UserError, show
from noisybench.records.schema import RunRecord
from noisybench.records.validation import parse_record
from noisybench.tracking.connection import (
    PREFIX,
    Connection,
    _is_unknown_run,
    _wrap_connection_errors,
    local_artifacts,
)
from noisybench.tracking.probe import hide_password

MAX_RECORD_BYTES = 64 * 2**20
"""Largest record that is read. A run of a thousand epochs with ten detectors takes a few megabytes."""


@dataclass(frozen=True)
class TrackedRun:
    """A run as the store lists it, without its results.

    Attributes:
        run_id: MLflow id.
        title: one-line description.
        artifact_uri: URI of the folder that holds the run's files.
        tags: noisybench's own tags without `PREFIX`: `identity`, `stack`, `label_set`, `budget`, `error` and others.
    """

    run_id: str
    title: str
    artifact_uri: str
    tags: dict[str, str]


@dataclass(frozen=True)
class ExcludedRun:
    """A finished run that no table can show.

    Attributes:
        run: the run as the store lists it.
        reason: why its record cannot be used, and what to do.
    """

    run: TrackedRun
    reason: str


@dataclass(frozen=True)
class StoredRuns:
    """All finished runs of a store.

    Attributes:
        records: records of the runs, the latest first.
        excluded: runs whose record cannot be used, except those that have been trained again since.
    """

    records: list[RunRecord]
    excluded: list[ExcludedRun]


class RunReader:
    """Finished and failed runs of one MLflow store. Trials of searches and auxiliary runs are not listed.

    Args:
        connection: the store.
        artifact_root: folder or URI that a server serves as `mlflow-artifacts:`; given only inside that server.
    """

    def __init__(self, connection: Connection, artifact_root: str | None = None) -> None:
        self.connection = connection
        self._artifact_root = artifact_root

    @_wrap_connection_errors
    def run_exists(self, run_id: str) -> bool:
        """Return True if the store has this run and it is not deleted."""
        from mlflow.exceptions import MlflowException

        try:
            return bool(self.connection.client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException as error:
            if not _is_unknown_run(error):
                raise
            return False

    @_wrap_connection_errors
    def run(self, run_id: str) -> TrackedRun:
        """Return a run by its id.

        Raises:
            UserError: the store has no such run.
        """
        from mlflow.exceptions import MlflowException

        try:
            return _tracked(self.connection.client.get_run(run_id))
        except MlflowException as error:
            if not _is_unknown_run(error):
                raise
            raise UserError(f"the store {self.connection.address} has no run {show(run_id, quotes=False)}") from None

    @_wrap_connection_errors
    def is_finished(self, identity: str, after: str = "") -> bool:
        """Return True if a run with this identity is finished and its record can be read.

        Args:
            identity: identity of the run.
            after: id of a finished run; only later ones count.
        """
        query = f"attributes.status = 'FINISHED' and tags.`{PREFIX}identity` = '{identity}'"
        runs = self.connection.client.search_runs(
            [self.connection.experiment], query, max_results=100, order_by=["attributes.start_time DESC"]
        )
        later = itertools.takewhile(lambda run: run.info.run_id != after, runs)
        # A trial has the identity of an ordinary run with its configuration, but does not replace it.
        return any(self._is_readable(_tracked(run)) for run in later if f"{PREFIX}trial_of" not in run.data.tags)

    def _is_readable(self, run: TrackedRun) -> bool:
        try:
            self.record(run)
        except StoreUnavailable:
            raise
        except UserError:
            return False
        return True

    def finished(self) -> dict[str, str]:
        """Return the id of the latest run of every finished identity."""
        # In reverse, so that the latest run of an identity replaces earlier ones.
        return {run.tags["identity"]: run.run_id for run in reversed(self.list_runs("FINISHED"))}

    def failed(self) -> dict[str, str]:
        """Return the reason for every identity with a failed run."""
        return {run.tags["identity"]: run.tags.get("error", "") for run in self.list_runs("FAILED")}

    def read(self) -> StoredRuns:
        """Return the records of all finished runs, and the runs whose record cannot be used."""
        records, excluded = list[RunRecord](), list[ExcludedRun]()
        for run in self.list_runs("FINISHED"):
            try:
                records.append(self.record(run))
            except StoreUnavailable:
                raise
            except UserError as error:
                excluded.append(ExcludedRun(run, str(error)))
        identities = {record.identity for record in records}
        return StoredRuns(records, [each for each in excluded if each.run.tags["identity"] not in identities])

    def records(self) -> list[RunRecord]:
        """Return the records of all finished runs whose record can be read."""
        return self.read().records

    def list_runs(self, status: str) -> list[TrackedRun]:
        """Return the runs with a status such as ``FINISHED``, the latest first, without trials and auxiliary runs."""
        # Studies, auxiliary runs, and runs whose process died right after their creation have no identity.
        return [run for run in self.list_all(status) if "identity" in run.tags and "trial_of" not in run.tags]

    @_wrap_connection_errors
    def list_all(self, status: str) -> list[TrackedRun]:
        """Return all runs with a status, the latest first: also studies, trials, auxiliary runs and equivalences."""
        if not self.connection.exists():
            return []
        # First, because it probes the store before the slow import of MLflow.
        store = self.connection.client._tracking_client.store
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        is_database = isinstance(store, SqlAlchemyStore)
        return self._query_tables(store, status) if is_database else self._query_server(status)

    def _query_tables(self, store: Any, status: str) -> list[TrackedRun]:
        """Query the database tables: MLflow's search also loads every parameter and metric, a millisecond per run."""
        from mlflow.store.tracking.dbmodels import models

        run: Any = models.SqlRun
        tag: Any = models.SqlTag

        conditions = (
            run.experiment_id == int(self.connection.experiment),
            run.status == status,
            run.lifecycle_stage == "active",
        )
        with store.ManagedSessionMaker() as session:
            runs = (
                session.query(run.run_uuid, run.name, run.artifact_uri)
                .filter(*conditions)
                # The id orders runs that started in the same millisecond.
                .order_by(run.start_time.desc(), run.run_uuid)
                .all()
            )
            tag_rows = (
                session.query(tag.run_uuid, tag.key, tag.value)
                .join(run, run.run_uuid == tag.run_uuid)
                .filter(*conditions, tag.key.startswith(PREFIX))
            )
            tags: dict[str, dict[str, str]] = {}
            for run_id, key, value in tag_rows:
                tags.setdefault(run_id, {})[key.removeprefix(PREFIX)] = value
        # The name of a run is for MLflow's tables, its title for messages.
        return [
            TrackedRun(run_id, run_tags.get("title", name), uri, run_tags)
            for run_id, name, uri in runs
            for run_tags in [tags.get(run_id, {})]
        ]

    def _query_server(self, status: str) -> list[TrackedRun]:
        """Query a tracking server page by page."""
        runs: list[TrackedRun] = []
        token = None
        while True:
            page = self.connection.client.search_runs(
                [self.connection.experiment], f"attributes.status = '{status}'", max_results=1000, page_token=token
            )
            runs += [_tracked(run) for run in page]
            token = page.token
            if not token:
                return runs

    @_wrap_connection_errors
    def record(self, run: TrackedRun) -> RunRecord:
        """Return the record of a finished run.

        Raises:
            UserError: the record file is missing or damaged, or its numbers are impossible.
        """
        try:
            record = parse_record(self._record_bytes(run))
        except (OSError, ValueError) as error:
            folder = self._folder(run)
            raise UserError(
                f"the record of run {run.run_id} ({run.title}) cannot be read: {error}. Restore record.json in "
                f"{folder or run.artifact_uri}, or delete the run: mlflow runs delete --run-id {run.run_id}"
            ) from None
        return dataclasses.replace(record, run_id=run.run_id)

    def _record_bytes(self, run: TrackedRun) -> bytes:
        with self.open_file(run, "record.json") as path:
            if path is None:
                raise FileNotFoundError("record.json does not exist")
            with path.open("rb") as file:
                content = file.read(MAX_RECORD_BYTES + 1)
            if len(content) > MAX_RECORD_BYTES:
                size = path.stat().st_size
                raise ValueError(f"record.json has {size} bytes; at most {MAX_RECORD_BYTES} are read")
            return content

    def _folder(self, run: TrackedRun) -> Path | None:
        """Return the local folder of a run's files; None if MLflow transfers them."""
        if self._artifact_root is None:
            return self.connection.artifact_folder(run.run_id, run.artifact_uri)
        # Inside a server files are read directly: a download would be a request of this server to itself.
        root, uri = urllib.parse.urlsplit(self._artifact_root), urllib.parse.urlsplit(run.artifact_uri)
        if uri.scheme in ("", "file"):
            return Path(urllib.request.url2pathname(uri.path))
        if root.scheme in ("", "file"):
            return local_artifacts(run.artifact_uri, Path(urllib.request.url2pathname(root.path)), run.run_id)
        return None

    @contextlib.contextmanager
    def open_file(self, run: TrackedRun, name: str) -> Iterator[Path | None]:
        """Yield the local path of one of a run's files or folders, or None if the run has none of this name.

        A file on a server is downloaded to a temporary folder, which is deleted when the block ends.
        """
        folder = self._folder(run)
        if folder is not None:
            path = folder / name
            yield path if path.exists() else None
            return
        uri = run.artifact_uri
        if uri.startswith("mlflow-artifacts:") and self._artifact_root is not None:
            uri = f"{self._artifact_root.rstrip('/')}/{uri.removeprefix('mlflow-artifacts:').lstrip('/')}"
        import mlflow.artifacts

        tracking_uri = self.connection.client.tracking_uri
        with tempfile.TemporaryDirectory() as temporary:
            try:
                artifacts = mlflow.artifacts.list_artifacts(artifact_uri=uri, tracking_uri=tracking_uri)
                if name not in {artifact.path.rpartition("/")[2] for artifact in artifacts}:
                    yield None
                    return
                local = mlflow.artifacts.download_artifacts(
                    artifact_uri=f"{uri}/{name}", dst_path=temporary, tracking_uri=tracking_uri
                )
            except Exception as error:
                # If the store itself answers, only this run is damaged.
                self.connection.probe()
                raise OSError(hide_password(str(error))) from error
            yield Path(local)

    def files(self, run: TrackedRun, folder: Path) -> dict[str, Path]:
        """Return the local path of each of a run's files by its path in the run; those of a server are downloaded.

        Args:
            run: the run.
            folder: folder for downloads.

        Raises:
            OSError: the files cannot be downloaded.
        """
        local = self._folder(run)
        if local is None:
            import mlflow.artifacts

            target = folder / run.run_id
            target.mkdir()
            uri = self.connection.client.tracking_uri
            try:
                # A folder below the target, with the last name of the URI.
                local = Path(
                    mlflow.artifacts.download_artifacts(
                        artifact_uri=run.artifact_uri, dst_path=str(target), tracking_uri=uri
                    )
                )
            except Exception as error:
                self.connection.probe()
                raise OSError(hide_password(str(error))) from error
        return {path.relative_to(local).as_posix(): path for path in sorted(local.rglob("*")) if path.is_file()}


def _tracked(run: Any) -> TrackedRun:
    """Return a run of MLflow's client as noisybench lists it."""
    tags = {key.removeprefix(PREFIX): value for key, value in run.data.tags.items() if key.startswith(PREFIX)}
    return TrackedRun(run.info.run_id, tags.get("title", run.info.run_name), run.info.artifact_uri, tags)
