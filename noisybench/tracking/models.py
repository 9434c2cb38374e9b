"""Find the models of runs in a store, and models under other addresses of MLflow."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from noisybench.errors import UserError, nearest
from noisybench.tracking.probe import hide_password
from noisybench.tracking.reader import TrackedRun
from noisybench.tracking.store import Store
from noisybench.utils.files import first_line

FOLDER, WEIGHTS = "model", "weights.pt"
"""Folder of a run that holds its model, and the file of the weights in it."""

MAX_SMALL_BYTES = 2 * 2**20
"""Bytes of weights up to which the model of a run is saved unless `execution.save_model` says otherwise."""

MLFLOW_SCHEMES = ("runs:/", "models:/", "mlflow-artifacts:/")
"""Beginnings of MLflow's addresses of models."""

MIN_DIGITS = 4
"""Smallest number of digits of an id that name a run."""


def find_finished_run(store: Store, name: str) -> TrackedRun:
    """Return the finished run that an id or an identity names, by all or its first digits.

    Raises:
        UserError: no finished run has this name, or several have.
    """
    runs = store.runs.list_runs("FINISHED")
    matches = [run for run in runs if name and (run.run_id.startswith(name) or run.tags["identity"].startswith(name))]
    # Runs of one identity are repetitions of one run, of which the latest counts.
    distinct = {run.tags["identity"]: run for run in reversed(matches)}
    if len(distinct) == 1 and len(name) >= MIN_DIGITS:
        exact = [run for run in matches if run.run_id.startswith(name)]
        return exact[0] if exact else next(iter(distinct.values()))
    if not runs:
        raise UserError(
            f"run: the store {store.connection.address} has no finished runs; train one with `noisybench run`"
        )
    if distinct:
        shown = "; ".join(f"{run.run_id[:8]} ({run.title})" for run in list(distinct.values())[:3])
        raise UserError(f"run: `{name}` is ambiguous: {shown}; give at least {MIN_DIGITS} digits that only one run has")
    names = [run.run_id[: max(8, len(name))] for run in runs] + [run.tags["identity"] for run in runs]
    raise UserError(
        f"run: no finished run of the store has the id or identity `{name}`, and no folder has this name; {nearest(name, names)} "
        "(`noisybench runs list` shows the runs)"
    )


@contextlib.contextmanager
def downloaded(uri: str, tracking_uri: str) -> Iterator[Path]:
    """Yield the local folder of a model under one of MLflow's addresses, such as ``models:/digits/1``.

    Raises:
        UserError: MLflow does not find it.
    """
    import mlflow.artifacts

    with tempfile.TemporaryDirectory() as folder:
        try:
            local = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=tracking_uri)
        except Exception as error:  # stores raise many types
            raise UserError(f"{uri}: MLflow does not find this model ({hide_password(first_line(error))})") from None
        yield Path(local)
