"""Repair of an embedded store: a new database from the records of the runs, and a deleted experiment restored."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from noisybench.config.resolve import resolve
from noisybench.errors import UserError
from noisybench.records.schema import RunRecord
from noisybench.records.validation import parse_record
from noisybench.tracking.connection import PREFIX, Connection
from noisybench.tracking.database import EXPERIMENT, create_database, database_state, insert_run
from noisybench.tracking.presentation import dataset_input, descriptive_tags, parameters, run_name
from noisybench.tracking.store import ActiveRun, Store, _truncate
from noisybench.utils.files import sync_folder
from noisybench.utils.locks import exclusive
from noisybench.utils.sqlite import opened, set_aside_database

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput


def database_problem(path: Path) -> str | None:
    """Return what is wrong with a database that exists, after a check of all its pages; None if it is healthy."""
    try:
        if database_state(path) == "unfinished":
            return f"the creation of {path} was interrupted; the next run creates it again"
    except UserError as error:
        return str(error)
    try:
        with opened(path) as connection:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        found = str(error)
    if found == "ok":
        return None
    problem = str(found).splitlines()[-1]
    return f"the store {path} is damaged ({problem}); `noisybench doctor --repair` makes a new one from the records"


def recorded_runs(connection: Connection) -> Iterator[tuple[str, RunRecord]]:
    """Yield id and record of every finished run whose files are beside the database of an embedded store."""
    for file in sorted(connection.artifacts.glob("*/artifacts/record.json")):
        with contextlib.suppress(OSError, ValueError):
            yield file.parents[1].name, parse_record(file.read_bytes())


def remake_database(store: Store) -> tuple[Path | None, int]:
    """Set a damaged database aside, and create a new one with all finished runs whose records are beside it.

    Runs keep their ids and files. Failed and interrupted runs, and studies, remain in the old file alone.

    Returns:
        New path of the old file, and the number of runs in the new one.

    Raises:
        UserError: the new database cannot be created.
    """
    connection = store.connection
    with exclusive(connection.database.with_suffix(".lock")):
        target = set_aside_database(connection.database)
        sync_folder(connection.database.parent)
    create_database(connection.database)
    restored = 0
    for run_id, record in recorded_runs(connection):
        _restore(store, run_id, record)
        restored += 1
    return target, restored


def _restore(store: Store, run_id: str, record: RunRecord) -> None:
    """Add a run with its former id to the database; its files stay where they are.

    Its suite is in no record: the run is restored outside of one.
    """
    from mlflow.entities import Param, RunTag

    connection, client = store.connection, store.connection.client
    start_time = max(0, record.rows[0].time - int(1000 * record.rows[0].seconds))
    provenance = record.spec.get("provenance") or {}
    study_run = provenance.get("trial_of")
    tags = {
        "identity": record.identity,
        "settings": record.settings,
        "code": json.dumps(record.code, sort_keys=True),
        "stack": record.stack,
        "budget": record.budget,
        "label_set": record.label_set,
        "privileged": ", ".join(record.privileged),
        **{f"env.{name}": value for name, value in record.environment.items()},
        **({"trial_of": study_run} if study_run else {}),
    }
    name, shown, datasets = _presentation(record)
    insert_run(client, connection.experiment, run_id, connection.artifact_uri(run_id), name, start_time)
    all_tags = {**shown, **{PREFIX + key: value for key, value in tags.items()}, "mlflow.runName": name}
    client.log_batch(
        run_id,
        params=[Param(key, _truncate(value)) for key, value in parameters(record.spec).items()],
        tags=[RunTag(key, value) for key, value in all_tags.items()],
    )
    if datasets:
        connection.log_datasets(run_id, datasets)
    run = ActiveRun(store.connection, run_id)
    run.log_summary(record)
    client.update_run(run_id, status="FINISHED")


def _presentation(record: RunRecord) -> tuple[str, dict[str, str], list[DatasetInput]]:
    """Return the name, the descriptive tags and the dataset of a run.

    Without a plug-in that it was trained with, its components have no names: it is shown by its title alone.
    """
    title = {f"{PREFIX}title": record.title}
    try:
        spec = resolve(record.spec)
    except UserError:
        return record.title, title, []
    return run_name(spec), descriptive_tags(spec) | title, [dataset_input(spec, record.label_set)]


def restore_experiment(connection: Connection) -> bool:
    """Restore the experiment if it is deleted, and return whether it was."""
    client = connection.client
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None or experiment.lifecycle_stage == "active":
        return False
    client.restore_experiment(experiment.experiment_id)
    return True
