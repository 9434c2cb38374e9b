"""MLflow: the only module that talks to it.

By default an embedded SQLite store in the working folder (`mlflow.db`, artifacts in `mlartifacts/`), which
`mlflow ui` shows; with `MLFLOW_TRACKING_URI` any server.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sqlite3
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from noisybench.config.spec import RunSpec
from noisybench.errors import UserError
from noisybench.records.schema import EpochRow, RunRecord
from noisybench.records.selection import SELECTION_RULES, select

if TYPE_CHECKING:
    from mlflow import MlflowClient
from noisybench.tracking.connection import ARTIFACTS, DATABASE, EXPERIMENT, PREFIX, _answering
from noisybench.tracking.reader import LARGEST_RECORD, TrackedRun
from noisybench.utils.locks import exclusive


class Store:
    """Runs in one MLflow store.

    Args:
        uri: tracking URI; by default `MLFLOW_TRACKING_URI`, else the embedded store in the working folder.
        artifacts: where a server keeps the artifacts that it hands out itself; given inside of that server.
    """

    def __init__(self, uri: str | None = None, artifacts: str | None = None) -> None:
        given = uri or os.environ.get("MLFLOW_TRACKING_URI")
        self._artifacts = artifacts
        self.uri = given or f"sqlite:///{(Path.cwd() / DATABASE).as_posix()}"
        self.embedded = self.uri.startswith("sqlite:///")

    def check(self) -> None:
        """Make sure that the store can be written, before anything is trained.

        Raises:
            UserError: it cannot; says why and what to do.
        """
        if self.embedded:
            self._prepare_database()
            with exclusive(self.database.with_suffix(".lock")):
                _ = self.experiment  # makes the tables, which MLflow cannot do in two processes at once
        elif self.uri.startswith(("http://", "https://")):
            self._ask_server()
        elif "://" not in self.uri or self.uri.startswith("file:"):
            raise UserError(
                f"MLFLOW_TRACKING_URI={self.uri}: MLflow no longer writes file stores; unset it for the embedded "
                "SQLite store, or give sqlite:///FILE or a server's http:// address"
            )
        _ = self.experiment

    @property
    def database(self) -> Path:
        """File of the embedded store."""
        return Path(urllib.parse.unquote(self.uri.removeprefix("sqlite:///")))

    def exists(self) -> bool:
        """False where an embedded store has not been made yet, so that reading need not make one."""
        return not self.embedded or self.database.is_file()

    def _prepare_database(self) -> None:
        try:
            with contextlib.closing(sqlite3.connect(self.database, timeout=30)) as connection:
                # Readers and several writers at once; persists in the file. MLflow does not set it.
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("BEGIN IMMEDIATE")
                connection.rollback()
        except sqlite3.Error as error:
            raise UserError(
                f"the store {self.database} cannot be written ({error}); check the folder's permissions and free space, "
                "or choose another store by MLFLOW_TRACKING_URI"
            ) from None

    def _ask_server(self) -> None:
        try:
            with urllib.request.urlopen(f"{self.uri.rstrip('/')}/health", timeout=10):
                return
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise UserError(
                f"the tracking server {self.uri} does not answer ({reason}); start it, or unset MLFLOW_TRACKING_URI "
                "to use the embedded store"
            ) from None

    @functools.cached_property
    def client(self) -> MlflowClient:
        """The client; importing MLflow takes over a second, so only now."""
        # MLflow's own defaults keep a run waiting for minutes when a server goes away.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri)

    @functools.cached_property
    def experiment(self) -> str:
        """Id of the experiment that holds all runs, made where it is missing."""
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            place = (self.database.parent / ARTIFACTS).resolve().as_uri() if self.embedded else None
            try:
                return str(self.client.create_experiment(EXPERIMENT, artifact_location=place))
            except MlflowException:  # another process was faster
                found = self.client.get_experiment_by_name(EXPERIMENT)
                if found is None:
                    raise
        return str(found.experiment_id)

    @_answering
    def start(self, spec: RunSpec, tags: dict[str, str], run_id: str | None) -> str:
        """Begin a run, or take up an interrupted or failed one.

        Args:
            spec: what is run.
            tags: label set, environment and the like.
            run_id: of the earlier attempt.

        Returns:
            The run's id.
        """
        from mlflow.entities import Param, RunTag
        from mlflow.exceptions import MlflowException

        if run_id:
            try:
                self.client.update_run(run_id, status="RUNNING")
                return run_id
            except MlflowException as error:
                # Made in another store, or deleted there: begin anew. Anything else is trouble with the store.
                if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    raise
        trial = spec.provenance.trial_of if spec.provenance else None
        parent = {"mlflow.parentRunId": trial, f"{PREFIX}trial_of": trial} if trial else {}
        run = self.client.create_run(self.experiment, run_name=spec.title, tags=parent)
        own = {"identity": spec.identity, "stack": spec.stack, "budget": spec.budget_hash}
        named = [RunTag(PREFIX + key, value) for key, value in {**own, **tags}.items()]
        params = [Param(key, str(value)[:500]) for key, value in _flat(spec.as_dict()).items()]
        self.client.log_batch(run.info.run_id, params=params, tags=named)
        return str(run.info.run_id)

    def log_rows(self, run_id: str, rows: list[EpochRow]) -> None:
        """Send rows in one batch. Sending a row again changes nothing, since key, step and time are the same."""
        from mlflow.entities import Metric

        metrics = [
            Metric(name if row.stage == "train" else f"{row.stage}/{name}", value, row.time, row.epoch)
            for row in rows
            for name, value in row.metrics().items()
        ]
        for start in range(0, len(metrics), 1000):
            self.client.log_batch(run_id, metrics=metrics[start : start + 1000])

    @_answering
    def finish(self, run_id: str, record: RunRecord, folder: Path) -> None:
        """Complete a run: all rows, summary metrics and every file of ``folder`` as artifacts."""
        from mlflow.entities import Metric

        self.log_rows(run_id, record.rows)
        measured = {f"selection/{rule}": select(record, rule) for rule in SELECTION_RULES}
        measured |= {f"cost/{name}": value for name, value in record.as_dict()["cost"].items()}
        measured |= {
            f"detection/{name}": value for name, value in record.as_dict()["detection"].items() if name != "roc"
        }
        measured |= {
            "calibration_error": record.calibration_error,
            "correction_accuracy": record.correction_accuracy,
        }
        end = record.rows[-1]
        metrics = [
            Metric(name, float(value), end.time, end.epoch) for name, value in measured.items() if value is not None
        ]
        self.client.log_batch(run_id, metrics=metrics)
        self.client.log_artifacts(run_id, str(folder))
        self.client.set_terminated(run_id, "FINISHED")

    def add_auxiliary(
        self, parent: str, title: str, meaning: dict[str, Any], charge: dict[str, Any], result: Path
    ) -> None:
        """Show a finished auxiliary run as a child of the run that trained it, with its result as an artifact."""
        from mlflow.entities import Metric, Param, RunTag

        tags = {"mlflow.parentRunId": parent, f"{PREFIX}auxiliary": charge["identity"]}
        run = self.client.create_run(self.experiment, run_name=title, tags=tags)
        now = int(time.time() * 1000)
        self.client.log_batch(
            run.info.run_id,
            metrics=[
                Metric(key, float(value), now, 0) for key, value in charge.items() if isinstance(value, int | float)
            ],
            params=[Param(key, str(value)[:500]) for key, value in meaning.items()],
        )
        self.client.log_artifact(run.info.run_id, str(result))
        self.client.log_batch(parent, tags=[RunTag(f"{PREFIX}auxiliary", charge["identity"])])
        self.client.set_terminated(run.info.run_id, "FINISHED")

    @_answering
    def has(self, run_id: str) -> bool:
        """Whether a run is in this store, and not deleted."""
        from mlflow.exceptions import MlflowException

        try:
            return bool(self.client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return False

    @_answering
    def start_study(self, title: str, facts: dict[str, Any]) -> str:
        """Begin a search, whose trials become its children. Returns its id."""
        from mlflow.entities import Param

        run = self.client.create_run(self.experiment, run_name=title, tags={f"{PREFIX}study": title})
        self.client.log_batch(run.info.run_id, params=[Param(key, str(value)[:500]) for key, value in facts.items()])
        return str(run.info.run_id)

    @_answering
    def finish_study(self, run_id: str, metrics: dict[str, float], folder: Path) -> None:
        """Complete a search with what it found, and its files."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(run_id, metrics=[Metric(name, value, now, 0) for name, value in metrics.items()])
        self.client.log_artifacts(run_id, str(folder))
        self.client.set_terminated(run_id, "FINISHED")

    @_answering
    def stop(self, run_id: str) -> None:
        """Mark a run as interrupted."""
        self.client.set_terminated(run_id, "KILLED")

    def fail(self, run_id: str, reason: str, traceback: str) -> None:
        """Record why a run broke."""
        self.client.set_tag(run_id, f"{PREFIX}error", reason[:5000])
        self.client.log_text(run_id, traceback or reason, "traceback.txt")
        self.client.set_terminated(run_id, "FAILED")

    @contextlib.contextmanager
    def system_metrics(self, run_id: str, wanted: bool) -> Iterator[None]:
        """Sample processor, memory and GPU every ten seconds while inside."""
        if not wanted:
            yield
            return
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor: Any = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=self.uri)  # type: ignore[no-untyped-call]
        monitor.start()
        try:
            yield
        finally:
            monitor.finish()

    @_answering
    def finished(self) -> dict[str, str]:
        """Run id of every finished identity."""
        return {each.tags["identity"]: each.run_id for each in self.tracked("FINISHED")}

    @_answering
    def is_finished(self, identity: str) -> bool:
        """Whether a run is finished."""
        asked = f"attributes.status = 'FINISHED' and tags.`{PREFIX}identity` = '{identity}'"
        found = self.client.search_runs([self.experiment], asked, max_results=100)
        return any(f"{PREFIX}trial_of" not in run.data.tags for run in found)

    @_answering
    def failed(self) -> dict[str, str]:
        """Reason of every identity whose latest attempt failed."""
        return {each.tags["identity"]: each.tags.get("error", "") for each in self.tracked("FAILED")}

    @_answering
    def records(self) -> list[RunRecord]:
        """All finished runs."""
        return [self.record(run) for run in self.tracked("FINISHED")]

    @_answering
    def tracked(self, status: str) -> list[TrackedRun]:
        """All runs with a status such as ``FINISHED``, the latest first; neither trials of searches nor auxiliary runs."""
        if not self.exists():
            return []
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        store = self.client._tracking_client.store
        listed = self._listed(store, status) if isinstance(store, SqlAlchemyStore) else self._searched(status)
        return [each for each in listed if "identity" in each.tags and "trial_of" not in each.tags]

    def _listed(self, store: Any, status: str) -> list[TrackedRun]:
        """From the tables: MLflow's own search brings every parameter and metric along, a millisecond for each run."""
        from mlflow.store.tracking.dbmodels import models

        run: Any = models.SqlRun
        tag: Any = models.SqlTag

        wanted = (
            run.experiment_id == int(self.experiment),
            run.status == status,
            run.lifecycle_stage == "active",
        )
        with store.ManagedSessionMaker() as session:
            runs = (
                session.query(run.run_uuid, run.name, run.artifact_uri)
                .filter(*wanted)
                .order_by(run.start_time.desc(), run.run_uuid)
                .all()
            )
            tags: dict[str, dict[str, str]] = {}
            named = (
                session.query(tag.run_uuid, tag.key, tag.value)
                .join(run, run.run_uuid == tag.run_uuid)
                .filter(*wanted, tag.key.startswith(PREFIX))
            )
            for run_id, key, value in named:
                tags.setdefault(run_id, {})[key.removeprefix(PREFIX)] = value
        return [TrackedRun(run_id, title, place, tags.get(run_id, {})) for run_id, title, place in runs]

    def _searched(self, status: str) -> list[TrackedRun]:
        """From a server."""
        found: list[TrackedRun] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment], f"attributes.status = '{status}'", max_results=1000, page_token=token
            )
            for run in page:
                tags = {k.removeprefix(PREFIX): v for k, v in run.data.tags.items() if k.startswith(PREFIX)}
                found.append(TrackedRun(run.info.run_id, run.info.run_name, run.info.artifact_uri, tags))
            token = page.token
            if not token:
                return found

    def record(self, run: TrackedRun) -> RunRecord:
        """The record of a finished run.

        Raises:
            UserError: its file is missing or damaged.
        """
        try:
            return RunRecord.from_dict({**from_json(self._record_bytes(run)), "run_id": run.run_id})
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f"the record of run {run.run_id} ({run.title}) cannot be read: {error}. Bring back record.json "
                f"below {run.place}, or delete the run: mlflow runs delete --run-id {run.run_id}"
            ) from None

    def _record_bytes(self, run: TrackedRun) -> bytes:
        with self.file(run, "record.json") as path:
            if path is None:
                raise FileNotFoundError("there is no record.json")
            if path.stat().st_size > LARGEST_RECORD:
                raise ValueError(f"{path.stat().st_size} bytes are too many for a record")
            return path.read_bytes()

    @contextlib.contextmanager
    def file(self, run: TrackedRun, name: str) -> Iterator[Path | None]:
        """One of a run's files, to be read while inside; None where it has no such file."""
        folder, tracking_uri = run.place, self.uri
        place = urllib.parse.urlparse(folder)
        if place.scheme == "mlflow-artifacts" and self._artifacts is not None:
            folder = f"{self._artifacts.rstrip('/')}/{place.path.lstrip('/')}"
            place = urllib.parse.urlparse(folder)
        if place.scheme in ("", "file"):
            path = Path(urllib.request.url2pathname(place.path)) / name
            yield path if path.is_file() else None
            return
        import mlflow.artifacts
        from mlflow.exceptions import MlflowException

        with tempfile.TemporaryDirectory() as temporary:
            listed = mlflow.artifacts.list_artifacts(artifact_uri=folder, tracking_uri=tracking_uri)
            if name not in {each.path.rpartition("/")[2] for each in listed}:
                yield None
                return
            try:
                file = mlflow.artifacts.download_artifacts(
                    artifact_uri=f"{folder}/{name}", dst_path=temporary, tracking_uri=tracking_uri
                )
            except MlflowException as error:
                raise OSError(str(error)) from error
            yield Path(file)


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    """Nested specification as dotted keys; members of the stack go by their names."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if key == "mitigations":
            flat[key] = "+".join(each["name"] for each in value)
            for each in value:
                flat |= {f"{key}.{each['name']}.{k}": v for k, v in each.items() if k != "name"}
        elif isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
