"""Write runs to an MLflow store."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from noisybench.config.spec import RunSpec
from noisybench.errors import Interrupted, StoreUnavailable, TrainingError, UserError
from noisybench.records.schema import EpochRow, RunRecord
from noisybench.records.selection import SELECTION_RULES, select
from noisybench.tracking.connection import PARENT, PREFIX, Connection, _is_unknown_run, _wrap_connection_errors
from noisybench.tracking.presentation import dataset_input, descriptive_tags, parameters, row_metrics, run_name
from noisybench.tracking.reader import RunReader
from noisybench.utils.files import replacing

MAX_METRICS_PER_REQUEST = 1000
"""Limit of MLflow's API."""

MAX_PARAM_LENGTH = 500
"""Limit of MLflow's API, in characters."""

MAX_TAG_LENGTH = 5000
"""Limit of MLflow's API, in characters."""


class Store:
    """One MLflow store: starts and ends runs; reading goes through ``runs``.

    Args:
        uri: tracking URI; by default `MLFLOW_TRACKING_URI`, else the embedded store in the working folder.
        artifact_root: folder or URI that a server serves as `mlflow-artifacts:`; given only inside that server.

    Attributes:
        connection: address, health check and MLflow client.
        runs: reader of finished and failed runs.

    Example:
        >>> import tempfile
        >>> store = Store(f"sqlite:///{tempfile.gettempdir()}/does-not-exist.db")
        >>> store.connection.exists(), store.runs.records()
        (False, [])
    """

    def __init__(self, uri: str | None = None, artifact_root: str | None = None) -> None:
        self.connection = Connection(uri)
        self.runs = RunReader(self.connection, artifact_root)

    @contextlib.contextmanager
    def track(self, spec: RunSpec, tags: Mapping[str, str], resume: str | None = None) -> Iterator[ActiveRun]:
        """Track one run while the block executes.

        The run ends as FINISHED if the block calls `ActiveRun.finish`, as KILLED if the block ends without it or
        raises `Interrupted` or `KeyboardInterrupt`, and as FAILED with the reason after any other exception. All
        exceptions propagate. `StoreUnavailable` leaves the status unchanged.

        Args:
            spec: the run.
            tags: label set, environment and other tags.
            resume: id of the earlier attempt, if there is one.

        Yields:
            The run, which takes rows, child runs and the final record.
        """
        run = self.start(spec, tags, resume)
        try:
            with _system_metrics(run, self.connection.client.tracking_uri, enabled=spec.execution.system_metrics):
                yield run
        except (Interrupted, KeyboardInterrupt):
            run.stop()
            raise
        except StoreUnavailable:
            # The status cannot be written either; rerunning the command resumes this attempt.
            raise
        except Exception as error:
            expected = isinstance(error, TrainingError | UserError)
            try:
                run.fail(str(error), "" if expected else traceback.format_exc())
            except Exception as tracking_error:  # the first error is the one to report
                logging.getLogger("noisybench").warning("the failure could not be tracked: %s", tracking_error)
            raise
        if not run.ended:
            run.stop()

    @_wrap_connection_errors
    def start(self, spec: RunSpec, tags: Mapping[str, str], resume: str | None = None) -> ActiveRun:
        """Start a run, or resume an interrupted or failed one. See `track` for the arguments."""
        from mlflow.entities import Param, RunTag
        from mlflow.exceptions import MlflowException

        client = self.connection.client
        if resume:
            try:
                client.update_run(resume, status="RUNNING")
                return ActiveRun(self.connection, resume)
            except MlflowException as error:
                # The earlier attempt was tracked in another store or has been deleted: start a new run.
                if not _is_unknown_run(error):
                    raise
        study_run = spec.provenance.trial_of if spec.provenance else None
        parent = {PARENT: study_run, f"{PREFIX}trial_of": study_run} if study_run else {}
        # The parent is set on creation: a trial belongs to its study even if this process dies before the next request.
        shown = descriptive_tags(spec)
        run = client.create_run(self.connection.experiment, run_name=run_name(spec), tags={**shown, **parent})
        spec_tags = {
            "identity": spec.identity,
            "settings": spec.settings_hash,
            "code": json.dumps(spec.code, sort_keys=True),
            "stack": spec.stack,
            "budget": spec.budget_hash,
        }
        client.log_batch(
            run.info.run_id,
            params=[Param(key, _truncate(value)) for key, value in parameters(spec.as_dict()).items()],
            tags=[RunTag(PREFIX + key, value) for key, value in {**spec_tags, **tags}.items()],
        )
        if "label_set" in tags:
            self.connection.log_datasets(run.info.run_id, [dataset_input(spec, tags["label_set"])])
        return ActiveRun(self.connection, str(run.info.run_id))

    def mark_failed(self, run_id: str, reason: str, traceback_text: str = "") -> None:
        """Mark a run as failed whose process could not do so itself."""
        ActiveRun(self.connection, run_id).fail(reason, traceback_text)

    @_wrap_connection_errors
    def describe_trial(self, study_run: str, identity: str, number: int, pruned: str = "") -> str | None:
        """Add Optuna's number to the run of a trial, and the reason if it was pruned.

        Returns:
            Id of the run; None if ``study_run`` has none of this identity, such as one that failed before it was tracked.
        """
        from mlflow.entities import RunTag

        query = f"tags.`{PREFIX}identity` = '{identity}' and tags.`{PREFIX}trial_of` = '{study_run}'"
        client = self.connection.client
        found = client.search_runs([self.connection.experiment], query, max_results=1)
        if not found:
            return None
        run_id = str(found[0].info.run_id)
        tags = {f"{PREFIX}trial": str(number), **({f"{PREFIX}pruned": pruned} if pruned else {})}
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        return run_id

    @_wrap_connection_errors
    def describe_run(self, run_id: str, text: str) -> None:
        """Replace the description of a run, in Markdown."""
        self.connection.client.set_tag(run_id, "mlflow.note.content", text[:MAX_TAG_LENGTH])

    @_wrap_connection_errors
    def start_study(self, title: str, settings: Mapping[str, Any]) -> str:
        """Start the parent run of a search's trials and return its id."""
        from mlflow.entities import Param

        client = self.connection.client
        run = client.create_run(self.connection.experiment, run_name=title, tags={f"{PREFIX}study": title})
        client.log_batch(run.info.run_id, params=[Param(key, _truncate(value)) for key, value in settings.items()])
        return str(run.info.run_id)

    @_wrap_connection_errors
    def finish_study(self, run_id: str, metrics: Mapping[str, float], folder: Path) -> None:
        """Finish a study with its metrics and with the files of ``folder`` as artifacts."""
        from mlflow.entities import Metric

        client, now = self.connection.client, _now()
        client.log_batch(run_id, metrics=[Metric(name, value, now, 0) for name, value in metrics.items()])
        upload_files(self.connection, run_id, folder.iterdir())
        # The status comes last: if the process dies before, the study does not count as finished without its files.
        client.set_terminated(run_id, "FINISHED")


class ActiveRun:
    """A run that is being tracked.

    Args:
        connection: the store.
        run_id: MLflow id.

    Attributes:
        ended: True after `finish`, `stop` or `fail`.
    """

    def __init__(self, connection: Connection, run_id: str) -> None:
        self.connection, self.run_id = connection, run_id
        self.ended = False
        self._logged: set[tuple[str, int, int]] = set()  # stage, epoch and time of each row

    def log_rows(self, rows: list[EpochRow]) -> None:
        """Log rows that this process has not logged. Logging a row again changes nothing: key, step and time are the same."""
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, row.time, row.epoch)
            for row in rows
            if (row.stage, row.epoch, row.time) not in self._logged
            for name, value in row_metrics(row).items()
        ]
        for start in range(0, len(metrics), MAX_METRICS_PER_REQUEST):
            self.connection.client.log_batch(self.run_id, metrics=metrics[start : start + MAX_METRICS_PER_REQUEST])
        # After the last request: rows of a request that fails are logged again at the end.
        self._logged |= {(row.stage, row.epoch, row.time) for row in rows}

    def log_auxiliary(self, title: str, settings: Mapping[str, Any], cost: Mapping[str, Any], result: Path) -> None:
        """Add a finished auxiliary run as a child run, with its result as an artifact.

        Args:
            title: one-line description.
            settings: parameters that identify the auxiliary run.
            cost: its `AuxiliaryCost` as a mapping; numbers become metrics.
            result: file with the trained weights.
        """
        from mlflow.entities import Metric, Param, RunTag

        client, now = self.connection.client, _now()
        tags = {PARENT: self.run_id, f"{PREFIX}auxiliary": cost["identity"]}
        child = client.create_run(self.connection.experiment, run_name=title, tags=tags).info.run_id
        numbers = {key: float(value) for key, value in cost.items() if isinstance(value, int | float)}
        client.log_batch(
            child,
            metrics=[Metric(key, value, now, 0) for key, value in numbers.items()],
            params=[Param(key, _truncate(value)) for key, value in settings.items()],
        )
        # A child counts as finished only after its file is stored, wherever the process dies.
        upload_files(self.connection, child, [result])
        client.log_batch(self.run_id, tags=[RunTag(f"{PREFIX}auxiliary", cost["identity"])])
        client.set_terminated(child, "FINISHED")

    @_wrap_connection_errors
    def finish(self, record: RunRecord, folder: Path) -> None:
        """Finish the run with all rows, summary metrics and the files of ``folder`` as artifacts."""
        self.log_summary(record)
        upload_files(self.connection, self.run_id, folder.iterdir())
        # The status comes last: a run that is FINISHED has all its metrics and files, wherever the process dies.
        self.connection.client.set_terminated(self.run_id, "FINISHED")
        self.ended = True

    def log_summary(self, record: RunRecord) -> None:
        """Log all rows of a finished run, and its summary metrics."""
        from mlflow.entities import Metric

        # All rows, because an upload during training may have failed.
        self.log_rows(record.rows)
        last_row = record.rows[-1]
        metrics = [
            # At step 0: MLflow draws a single number at a later step as a point on a nearly empty axis.
            Metric(name, float(value), last_row.time, 0)
            for name, value in _summary_metrics(record).items()
            if value is not None
        ]
        self.connection.client.log_batch(self.run_id, metrics=metrics)

    @_wrap_connection_errors
    def stop(self) -> None:
        """Mark the run as interrupted."""
        self.connection.client.set_terminated(self.run_id, "KILLED")
        self.ended = True

    def fail(self, reason: str, traceback_text: str = "") -> None:
        """Mark the run as failed, with the reason as a tag and the traceback as an artifact."""
        client = self.connection.client
        client.set_tag(self.run_id, f"{PREFIX}error", reason[:MAX_TAG_LENGTH])
        upload_text(self.connection, self.run_id, traceback_text or reason, "traceback.txt")
        client.set_terminated(self.run_id, "FAILED")
        self.ended = True


def upload_files(connection: Connection, run_id: str, paths: Iterable[Path]) -> None:
    """Store files and folders as artifacts of a run.

    Args:
        connection: the store.
        run_id: id of the run.
        paths: files and folders; each keeps its name, and replaces an earlier artifact of this name.
    """
    target = connection.artifact_folder(run_id)
    for path in sorted(paths):
        if target is None:
            client = connection.client
            if path.is_dir():
                client.log_artifacts(run_id, str(path), path.name)
            else:
                client.log_artifact(run_id, str(path))
            continue
        files = [file for file in sorted(path.rglob("*")) if file.is_file()] if path.is_dir() else [path]
        for file in files:
            with replacing(target / file.relative_to(path.parent)) as partial:
                shutil.copyfile(file, partial)


def upload_text(connection: Connection, run_id: str, text: str, name: str) -> None:
    """Store text as an artifact of a run."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_text(text, encoding="utf-8", errors="replace")
        upload_files(connection, run_id, [file])


@contextlib.contextmanager
def _system_metrics(run: ActiveRun, uri: str, enabled: bool) -> Iterator[None]:
    """Sample CPU, memory and GPU every ten seconds while the block executes."""
    if not enabled:
        yield
        return
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    # With `resume_logging`, the samples of a resumed run continue after those of the earlier attempt.
    monitor: Any = SystemMetricsMonitor(run.run_id, resume_logging=True, tracking_uri=uri)  # type: ignore[no-untyped-call]
    monitor.start()
    first_step = monitor._logging_step
    try:
        yield
    finally:
        monitor.finish()
        if monitor._logging_step == first_step:
            # The run has ended before its first interval: the sample of its start is published, or its page would be empty.
            with contextlib.suppress(Exception):
                monitor.publish_metrics(monitor.aggregate_metrics())
                monitor.mlflow_logger.flush()


def _summary_metrics(record: RunRecord) -> dict[str, float | None]:
    """Return the metrics of a whole run: score per selection rule, cost, detection, calibration and correction."""
    data = record.as_dict()
    return {
        **{f"selection/{rule}": select(record, rule) for rule in SELECTION_RULES},
        **{f"cost/{name}": value for name, value in data["cost"].items()},
        **{f"detection/{name}": value for name, value in data["detection"].items() if name != "roc"},
        "calibration_error": record.calibration_error,
        "correction_accuracy": record.correction_accuracy,
    }


def _truncate(value: Any) -> str:
    return str(value)[:MAX_PARAM_LENGTH]


def _now() -> int:
    """Return the current time in milliseconds, as MLflow counts it."""
    return int(time.time() * 1000)
