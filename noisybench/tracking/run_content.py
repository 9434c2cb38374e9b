"""Everything that MLflow stores about a run besides its files: read from one store, written to another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeVar

import pydantic

from noisybench.tracking.connection import PARENT, PREFIX, Connection, _is_unknown_run
from noisybench.tracking.database import insert_run
from noisybench.tracking.store import MAX_METRICS_PER_REQUEST

CONTENT_FILE = "run.json"
"""File of an item that holds a `RunContent`."""

IMPORTED = f"{PREFIX}imported"
"""Tag with the id that a run had in the store that it was exported from, where it could not keep this id."""

MAX_ENTRIES_PER_REQUEST = 100
"""Limit of MLflow's API for parameters and tags."""

Entry = TypeVar("Entry")


class DatasetContent(pydantic.BaseModel):
    """A dataset of a run as MLflow stores it, with the tags that say what the run uses it for."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    digest: str
    source_type: str
    source: str
    tags: dict[str, str]


class RunContent(pydantic.BaseModel):
    """A run as MLflow stores it.

    Attributes:
        name: title of the run.
        status: status of MLflow.
        start_time: start in milliseconds since 1970.
        end_time: end in milliseconds since 1970; None for a run that has not ended.
        tags: all tags.
        params: all parameters.
        metrics: values by name, each with its time in milliseconds since 1970 and its step.
        datasets: datasets of the run.

    Example:
        >>> content = RunContent(name="gce", status="FINISHED", start_time=1, end_time=2, tags={}, params={},
        ...                      metrics={"test_accuracy": [(0.5, 1, 0)]})
        >>> RunContent.model_validate_json(content.model_dump_json()) == content
        True
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True, ser_json_inf_nan="constants")

    name: str
    status: Literal["FINISHED", "FAILED", "KILLED", "RUNNING", "SCHEDULED"]
    start_time: int = pydantic.Field(ge=0, lt=2**53)
    end_time: int | None = pydantic.Field(ge=0, lt=2**53)
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, list[tuple[float, int, int]]]
    datasets: list[DatasetContent] = []

    @property
    def parent(self) -> str | None:
        """Id of the run that this is a child of."""
        return self.tags.get(PARENT)

    def tag(self, name: str) -> str | None:
        """Return one of noisybench's own tags."""
        return self.tags.get(PREFIX + name)


def read_content(connection: Connection, run_id: str) -> RunContent:
    """Return what MLflow stores about a run, with all values of its metrics."""
    run = connection.client.get_run(run_id)
    metrics: dict[str, list[tuple[float, int, int]]] = {}
    for key, value, timestamp, step in _metrics(connection, run):
        metrics.setdefault(key, []).append((value, timestamp, step))
    inputs = run.inputs.dataset_inputs if run.inputs is not None else []
    return RunContent(
        name=str(run.info.run_name or ""),
        status=str(run.info.status),  # type: ignore[arg-type]  # checked by pydantic
        start_time=int(run.info.start_time),
        end_time=int(run.info.end_time) if run.info.end_time is not None else None,
        tags=dict(sorted(run.data.tags.items())),
        params=dict(sorted(run.data.params.items())),
        metrics={key: sorted(values, key=lambda value: value[1:]) for key, values in sorted(metrics.items())},
        datasets=sorted(map(_dataset_content, inputs), key=lambda dataset: dataset.digest),
    )


def _dataset_content(used: Any) -> DatasetContent:
    dataset = used.dataset
    tags = {tag.key: tag.value for tag in used.tags}
    return DatasetContent(
        name=dataset.name, digest=dataset.digest, source_type=dataset.source_type, source=dataset.source, tags=tags
    )


def _dataset_input(content: DatasetContent) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset: Any = Dataset(content.name, content.digest, content.source_type, content.source)
    return DatasetInput(dataset, [InputTag(key, value) for key, value in content.tags.items()])


def _metrics(connection: Connection, run: Any) -> Iterator[tuple[str, float, int, int]]:
    """Yield name, value, time and step of all metrics of a run."""
    from mlflow.store.tracking.dbmodels import models
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store: Any = connection.client._tracking_client.store
    if not isinstance(store, SqlAlchemyStore):
        for key in run.data.metrics:
            for metric in connection.client.get_metric_history(run.info.run_id, key):
                yield key, metric.value, metric.timestamp, metric.step
        return
    # One query: the API would need one for each of about fifty metrics.
    table: Any = models.SqlMetric
    with store.ManagedSessionMaker() as session:
        rows = session.query(table.key, table.value, table.timestamp, table.step, table.is_nan)
        for key, value, timestamp, step, is_nan in rows.filter(table.run_uuid == run.info.run_id).all():
            yield key, float("nan") if is_nan else float(value), int(timestamp), int(step)


def find_run(connection: Connection, run_id: str) -> tuple[str, str] | None:
    """Return id and status of the run that has an id, or that was imported from a run with this id; None if none has."""
    from mlflow.exceptions import MlflowException

    try:
        info = connection.client.get_run(run_id).info
        if info.lifecycle_stage == "active" and info.experiment_id == connection.experiment:
            return run_id, str(info.status)
    except MlflowException as error:
        if not _is_unknown_run(error):
            raise
    found = connection.client.search_runs([connection.experiment], f"tags.`{IMPORTED}` = '{run_id}'", max_results=1)
    return (str(found[0].info.run_id), str(found[0].info.status)) if found else None


def start_content(connection: Connection, run_id: str, content: RunContent, ids: dict[str, str]) -> str:
    """Add a run with its tags, parameters, metrics and datasets, and return its id. Its files and its status follow.

    A run that an interrupted import has left is completed, since adding the same values again changes nothing.

    Args:
        connection: the store.
        run_id: id in the store that the run was exported from.
        content: the run.
        ids: ids in this store by those in the other, where they differ.
    """
    from mlflow.entities import Metric, Param, RunTag

    client = connection.client
    tags = dict(content.tags)
    for key in (PARENT, f"{PREFIX}trial_of", f"{PREFIX}suite_run"):
        if key in tags:
            tags[key] = ids.get(tags[key], tags[key])
    existing = find_run(connection, run_id)
    if existing is not None:
        target = existing[0]
    elif connection.embedded and insert_run(
        client, connection.experiment, run_id, connection.artifact_uri(run_id), content.name, content.start_time
    ):
        target = run_id
    else:
        tags[IMPORTED] = run_id
        # Tags at once, so that a child belongs to its parent even if this process ends before the next request.
        run = client.create_run(connection.experiment, content.start_time, tags=tags, run_name=content.name)
        target = str(run.info.run_id)
    metrics = [Metric(key, *value) for key, values in content.metrics.items() for value in values]
    for some_tags in _batches([RunTag(key, value) for key, value in tags.items()], MAX_ENTRIES_PER_REQUEST):
        client.log_batch(target, tags=some_tags)
    for some_params in _batches([Param(key, value) for key, value in content.params.items()], MAX_ENTRIES_PER_REQUEST):
        client.log_batch(target, params=some_params)
    for some_metrics in _batches(metrics, MAX_METRICS_PER_REQUEST):
        client.log_batch(target, metrics=some_metrics)
    if content.datasets:
        connection.log_datasets(target, [_dataset_input(dataset) for dataset in content.datasets])
    return target


def end_content(connection: Connection, run_id: str, content: RunContent) -> None:
    """Give an added run its status and its end; a run that had not ended is marked as interrupted."""
    status = content.status if content.status in ("FINISHED", "FAILED") else "KILLED"
    last = max((time for values in content.metrics.values() for _, time, _ in values), default=content.start_time)
    end = content.end_time if content.end_time is not None else max(last, content.start_time)
    connection.client.set_terminated(run_id, status, end)


def _batches(entries: list[Entry], size: int) -> Iterator[list[Entry]]:
    for start in range(0, len(entries), size):
        yield entries[start : start + size]
