"""Parent runs in MLflow, one per suite and setting, under which its table shows the runs of both."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Iterable

from noisybench import __version__
from noisybench.config.spec import RunSpec
from noisybench.tracking.connection import PREFIX, Connection, _wrap_connection_errors
from noisybench.tracking.database import insert_run
from noisybench.tracking.presentation import setting_label
from noisybench.tracking.store import Store

KEY = f"{PREFIX}suite_key"
"""Tag of the parent runs: a hash of suite and setting."""

MAX_NAME_LENGTH = 250
"""Limit of MLflow's tables, in characters."""


def with_suite_runs(store: Store, specs: Iterable[RunSpec]) -> list[RunSpec]:
    """Return runs with the parent run of their suite and setting, which is created if the store has none.

    A parent run has no identity and no results: it is never read as a run, only shown by MLflow.

    Args:
        store: store of the runs.
        specs: runs; those without a suite are returned as they are.

    Raises:
        StoreUnavailable: the store cannot be written.
    """
    specs = list(specs)
    groups = {(spec.suite, setting_label(spec)) for spec in specs if spec.suite}
    ids = {group: _suite_run(store, *group) for group in sorted(groups)}
    return [dataclasses.replace(spec, suite_run=ids.get((spec.suite, setting_label(spec)), "")) for spec in specs]


def find_suite_run(connection: Connection, key: str) -> tuple[str, str] | None:
    """Return id and status of the parent run with a key; None if the store has none."""
    found = connection.client.search_runs([connection.experiment], f"tags.`{KEY}` = '{key}'", max_results=1)
    return (str(found[0].info.run_id), str(found[0].info.status)) if found else None


@_wrap_connection_errors
def _suite_run(store: Store, suite: str, setting: str) -> str:
    """Return the id of the parent run of a suite and setting."""
    from mlflow.entities import RunTag

    connection, client = store.connection, store.connection.client
    key = hashlib.sha256(f"{suite}\n{setting}".encode()).hexdigest()[:32]
    run_id, status = find_suite_run(connection, key) or ("", "")
    if not run_id:
        name, tags = f"{suite} · {setting}"[:MAX_NAME_LENGTH], _tags(suite, setting, key)
        now = int(time.time() * 1000)
        # Two commands that start at once agree on this id. It stays in use where a user has deleted the run.
        if connection.embedded and (
            insert_run(client, connection.experiment, key, connection.artifact_uri(key), name, now)
            or store.runs.run_exists(key)
        ):
            run_id = key
            client.log_batch(key, tags=[RunTag(tag, value) for tag, value in tags.items()])
        else:
            run_id = str(client.create_run(connection.experiment, now, tags=tags, run_name=name).info.run_id)
    if status != "FINISHED":
        # At once: it would remain listed as running if this process died.
        client.set_terminated(run_id, "FINISHED")
    return run_id


def _tags(suite: str, setting: str, key: str) -> dict[str, str]:
    return {
        KEY: key,
        f"{PREFIX}suite": suite,
        f"{PREFIX}setting": setting,
        "mlflow.source.name": f"noisybench {__version__}",
        "mlflow.source.type": "LOCAL",
        "mlflow.note.content": f"Runs of the suite {suite} in the setting {setting}. [Leaderboard](/leaderboard)",
    }
