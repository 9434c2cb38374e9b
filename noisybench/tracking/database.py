"""The embedded store's SQLite database: created as a whole, and recognized when it is not one of ours.

MLflow creates its tables by seventy migrations without a transaction, so that an interruption would leave a file that no
version of MLflow can open. The database is therefore made in a temporary folder and moved into place.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sqlite3
from pathlib import Path
from typing import Any, Literal

from noisybench.errors import UserError
from noisybench.utils.locks import exclusive
from noisybench.utils.sqlite import create_whole, filled_tables, opened, set_aside_database

EXPERIMENT = "noisybench"
"""Name of the MLflow experiment that holds all runs."""

ARTIFACT_LOCATION = "mlflow-artifacts:/"
"""Artifact location of the embedded store's experiments: relative, so that a folder can be moved and copied.

MLflow's server resolves it to its `--artifacts-destination`, by default the folder `mlartifacts` that it starts in."""

INITIAL_ROWS = {"alembic_version", "workspaces", "sqlite_sequence"}
"""Tables that have rows in a database without any experiment."""

logger = logging.getLogger("noisybench")

State = Literal["missing", "unfinished", "complete"]


def database_state(path: Path) -> State:
    """Return the state of the embedded store's database.

    Returns:
        ``unfinished`` if its creation was interrupted, by whatever program, so that it has no experiments and no runs.

    Raises:
        UserError: the file is damaged, belongs to another program, or is in a folder that cannot be searched.
    """
    try:
        if not path.is_file():
            return "missing"
    except PermissionError as error:
        raise UserError(_not_readable(path, error)) from None
    try:
        tables = filled_tables(path)
    except sqlite3.Error as error:
        raise UserError(_not_readable(path, error)) from None
    if not any(filled for table, filled in tables.items() if table not in INITIAL_ROWS):
        return "unfinished"
    if "experiments" not in tables or "runs" not in tables:
        raise UserError(
            f"{path} is no MLflow database (its tables: {', '.join(sorted(tables)[:5])}); select another file with "
            "MLFLOW_TRACKING_URI=sqlite:///FILE"
        )
    return "complete"


def _not_readable(path: Path, error: Exception) -> str:
    text = str(error)
    if isinstance(error, PermissionError):
        return (
            f"the store {path} cannot be reached ({error.strerror}: one of its folders cannot be searched); give yourself "
            f"the permission to search them (chmod u+x FOLDER), or select another store with MLFLOW_TRACKING_URI"
        )
    if "locked" in text:
        return f"the store {path} is locked by another process ({text}); end that process, then run the command again"
    if "not a database" in text or "malformed" in text or "corrupt" in text:
        return (
            f"the store {path} is damaged ({text}); `noisybench doctor --repair` sets it aside and makes a new one from "
            "the records of the runs"
        )
    return (
        f"the store {path} cannot be read ({text}); check the permissions and the free space of its folder, or select "
        "another store with MLFLOW_TRACKING_URI"
    )


def create_database(path: Path) -> None:
    """Create the database unless it is complete; an unfinished one is set aside. Processes wait for each other.

    Raises:
        UserError: the database cannot be created; nothing is left of the attempt.
    """
    if database_state(path) == "complete":
        return
    try:
        with exclusive(path.with_suffix(".lock")):
            state = database_state(path)  # another process may have created it meanwhile
            if state == "complete":
                return
            if state == "unfinished":
                size = path.stat().st_size
                target = set_aside_database(path)
                if size and target is not None:
                    logger.warning(
                        "the creation of the store %s was interrupted before its first run: it is created again (the "
                        "unfinished file is now %s)", path, target.name
                    )  # fmt: skip
            create_whole(path, _create_tables)
            # This process may have connections to a database that has been at this place before.
            _close_connections(f"sqlite:///{path.as_posix()}")
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"the store {path} cannot be created ({reason}); check the permissions and the free space of its folder, or "
            "select another store with MLFLOW_TRACKING_URI"
        ) from None


def _create_tables(path: Path) -> None:
    """Let MLflow create its tables and the default experiment."""
    quiet_mlflow()
    from mlflow.exceptions import MlflowException
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy.exc import SQLAlchemyError

    uri = f"sqlite:///{path.as_posix()}"
    try:
        store: Any = SqlAlchemyStore(uri, ARTIFACT_LOCATION)  # type: ignore[no-untyped-call]
        store.create_experiment(EXPERIMENT, ARTIFACT_LOCATION)
    except (MlflowException, SQLAlchemyError) as error:
        # The reason is that of the database driver, such as `database or disk is full`.
        reason = getattr(error, "orig", None) or str(error).splitlines()[0]
        raise sqlite3.OperationalError(reason) from None
    finally:
        _close_connections(uri)


def _close_connections(uri: str) -> None:
    """Close MLflow's connections to a database, which it keeps by the address of the file."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    engine = SqlAlchemyStore._engine_map.pop(uri, None)
    if engine is not None:
        engine.dispose()


def insert_run(client: Any, experiment: str, run_id: str, artifact_uri: str, title: str, start_time: int) -> bool:
    """Add a run with a given id, which MLflow's client cannot do, to the embedded store.

    Args:
        client: MLflow client of the store.
        experiment: id of the experiment.
        run_id: id of the run, which is also the name of the folder of its files.
        artifact_uri: URI of that folder.
        title: name of the run.
        start_time: start in milliseconds since 1970.

    Returns:
        False if the id is in use, for instance by a deleted run; nothing has changed then.
    """
    from mlflow.store.tracking.dbmodels import models

    columns = {
        "run_uuid": run_id,
        "name": title,
        "user_id": "",
        "source_type": "UNKNOWN",
        "status": "RUNNING",
        "lifecycle_stage": "active",
        "start_time": start_time,
        "artifact_uri": artifact_uri,
        "experiment_id": int(experiment),
    }
    with client._tracking_client.store.ManagedSessionMaker(read_only=False) as session:
        if session.get(models.SqlRun, run_id) is not None:
            return False
        session.add(models.SqlRun(**columns))
    return True


def check_schema(found: str | None, address: str) -> None:
    """Compare the schema version of a database with that of the installed MLflow.

    MLflow itself would change the tables of an older database without a backup.

    Args:
        found: version in the database; None if the database has no tables yet.
        address: address of the database, without a password.

    Raises:
        UserError: the versions differ; the message says what to do.
    """
    if found is None or found == latest_schema():
        return
    import mlflow
    from alembic.script import ScriptDirectory
    from mlflow.store.db import utils

    database: Any = utils
    scripts = ScriptDirectory.from_config(database._get_alembic_config(""))
    known = {script.revision for script in scripts.walk_revisions()}
    if found in known:
        raise UserError(
            f"the store {address} has the tables of an older MLflow (schema {found}); make a copy of it, then run: "
            f"mlflow db upgrade {address}"
        )
    raise UserError(
        f"the store {address} has the tables of a newer MLflow (schema {found}) than the installed version "
        f"{mlflow.__version__}, or of another program; install the MLflow that wrote it, or select another store with "
        "MLFLOW_TRACKING_URI"
    )


@functools.cache
def latest_schema() -> str:
    """Return the schema version of the installed MLflow, which executes all of its migration scripts."""
    from mlflow.store.db import utils

    database: Any = utils
    return str(database._get_latest_schema_revision())


def schema_version(path: Path) -> str | None:
    """Return the schema version of an SQLite database; None if it has none."""
    with contextlib.suppress(sqlite3.Error), opened(path) as connection:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(row[0]) if row else None
    return None


def finished_identities(path: Path) -> set[str]:
    """Return the identities of the finished runs of an SQLite database, without MLflow; empty if it cannot be read.

    Only an estimate of the runs that are left to train: their records are not read.
    """
    query = (
        "SELECT tags.value FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid "
        "WHERE tags.key = 'noisybench.identity' AND runs.status = 'FINISHED' AND runs.lifecycle_stage = 'active'"
    )
    with contextlib.suppress(sqlite3.Error), opened(path, timeout=0) as connection:
        return {str(identity) for (identity,) in connection.execute(query)}
    return set()


def check_writable(path: Path) -> None:
    """Check that a complete database can be written.

    Raises:
        UserError: it cannot; the message says what to do.
    """
    try:
        if not is_writable(path):
            raise sqlite3.OperationalError("the file or its folder is read-only")
        with opened(path) as connection:
            # Takes the lock for writing: opening alone also succeeds for a file that can only be read.
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
    except sqlite3.Error as error:
        raise UserError(
            f"the store {path} cannot be written ({error}); check the permissions and the free space of its folder, or "
            "select another store with MLFLOW_TRACKING_URI"
        ) from None


def is_writable(path: Path) -> bool:
    """Return True if a database and its folder, where SQLite keeps its journal, can be written."""
    return os.access(path.parent, os.W_OK) and os.access(path, os.W_OK)


def quiet_mlflow() -> None:
    """Silence messages of MLflow and Alembic that noisybench reports in its own words."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    # It prints a traceback for each failed query, and a warning with the whole SQL for each attempt to connect.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
