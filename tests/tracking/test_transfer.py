"""Exports and imports of runs: everything arrives, once, verified, and nothing hostile or damaged does."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noisybench.config.resolve import resolve
from noisybench.runs import runner
from noisybench.tracking.store import Store
from tests.conftest import copy_database
from tests.leaderboard.test_board import keep
from tests.leaderboard.test_leaderboard import example_records

Command = Callable[..., tuple[int, str]]

TABLES = {
    "runs": "run_uuid, name, status, start_time, end_time, lifecycle_stage, artifact_uri",
    "metrics": "run_uuid, key, timestamp, step, value, is_nan",
    "latest_metrics": "run_uuid, key, timestamp, step, value, is_nan",
    "tags": "run_uuid, key, value",
    "params": "run_uuid, key, value",
}
"""Columns of MLflow's tables that an import must restore."""


def rows(folder: Path) -> dict[str, list[Any]]:
    """Return the content of a store, and the files of its runs."""
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        tables = {
            name: connection.execute(f"SELECT {columns} FROM {name} ORDER BY {columns}").fetchall()
            for name, columns in TABLES.items()
        }
    files = [path for path in sorted((folder / "mlartifacts").rglob("*")) if path.is_file()]
    return {**tables, "files": [(path.relative_to(folder).as_posix(), path.read_bytes()) for path in files]}


def add(store: Store, made: Any, start: int = 1_700_000_000_000) -> str:
    """Add a finished run with system metrics, an auxiliary child run and files."""
    from mlflow.entities import Metric, RunTag

    client = store.connection.client
    run_id = keep(store, made)
    tags = {"code": json.dumps(made.code, sort_keys=True), "stack": made.stack, "env.device": "a GPU"}
    client.log_batch(run_id, tags=[RunTag(f"noisybench.{name}", value) for name, value in tags.items()])
    client.log_batch(
        run_id,
        metrics=[Metric("system/gpu_0_utilization_percentage", 90.0 + i, start + 10_000 * i, i) for i in range(4)]
        + [Metric("test_accuracy", float("nan"), start, 0), Metric("test_accuracy", 0.5, start + 1, 1)],
    )
    child = client.create_run(
        store.connection.experiment,
        start_time=start + 5,
        run_name="scores",
        tags={"mlflow.parentRunId": run_id, "noisybench.auxiliary": "ab" * 10},
    ).info.run_id
    place = store.connection.artifact_folder(child)
    assert place is not None
    place.mkdir(parents=True)
    (place / f"{'ab' * 10}.pt").write_bytes(b"weights" * 100)
    client.set_terminated(child, "FINISHED", start + 9)
    return run_id


@pytest.fixture
def other(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Enter another working folder with an empty store."""

    def enter(name: str = "other") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        copy_database(empty_database, folder / "mlflow.db")
        monkeypatch.chdir(folder)
        return folder

    return enter


def test_an_imported_store_is_the_exported_one(
    store: Store, workspace: Path, other: Callable[[], Path], noisybench: Command
) -> None:
    for number, made in enumerate(example_records()):
        add(store, made, 1_700_000_000_000 + 100 * number)
    status, output = noisybench("runs", "export", "-o", "records.zip")
    assert (status, "Exported 18 runs" in output) == (0, True), output
    tables = noisybench("leaderboard", "-f", "csv")
    folder = other()
    status, output = noisybench("runs", "import", "../records.zip")
    assert (status, "Imported 18 runs\n9 of 9 runs were trained by other code" in output) == (0, True), output
    assert rows(folder) == rows(workspace)
    assert noisybench("leaderboard", "-f", "csv") == tables
    before = rows(folder)
    status, output = noisybench("runs", "import", "../records.zip")
    assert (status, output) == (0, "Nothing to import: all 18 items are here already\n")
    assert rows(folder) == before


def test_an_export_leaves_out_what_earlier_ones_have(
    store: Store, other: Callable[[], Path], noisybench: Command
) -> None:
    *first, last = example_records()[:3]
    for made in first:
        add(store, made)
    assert noisybench("runs", "export", "-o", "first.zip")[0] == 0
    other()
    assert noisybench("runs", "import", "../first.zip")[0] == 0
    nothing = "Nothing to export: the earlier exports have everything\n"
    assert noisybench("runs", "export", "-o", "again.zip", "--without", "../first.zip") == (0, nothing)
    assert not Path("again.zip").exists()
    add(Store(), last)
    status, output = noisybench("runs", "export", "-o", "second.zip", "--without", "../first.zip")
    assert (status, "Exported 2 runs" in output) == (0, True), output
    status, output = noisybench(
        "runs", "export", "-o", "third.zip", "--without", "../first.zip", "--without", "second.zip"
    )
    assert (status, output) == (0, nothing)


def test_each_part_can_be_imported_by_itself(
    store: Store, workspace: Path, other: Callable[[], Path], noisybench: Command
) -> None:
    for made in example_records():
        run_id = add(store, made)
        file = Path("mlartifacts") / run_id / "artifacts" / "samples.parquet"
        file.write_bytes(np.random.default_rng(made.seed).bytes(20_000))
    status, output = noisybench("runs", "export", "-o", "records.zip", "--max-size", "64K")
    parts = sorted(Path().glob("records-part*of*.zip"))
    assert (status, len(parts) > 1, Path("records.zip").exists()) == (0, True, False), output
    assert all(part.stat().st_size <= 65536 for part in parts)
    folder = other()
    counts = []
    for part in parts[::-1]:
        status, output = noisybench("runs", "import", f"../{part}")
        assert status == 0, output
        counts.append(len(Store().runs.finished()))
    assert sorted(set(counts)) == counts, "every part adds runs"
    assert {name: sorted(map(str, values)) for name, values in rows(folder).items()} == {
        name: sorted(map(str, values)) for name, values in rows(workspace).items()
    }


SHORT = {
    "dataset": {"name": "digits", "train_size": 100, "test_size": 40},
    "mitigations": {"name": "simclr", "epochs": 1},
    "budget": {"network": "small_cnn", "epochs": 3, "batch_size": 50},
    "execution": {"system_metrics": False},
}


def train(stop_after: int | None = None) -> tuple[str, list[str]]:
    """Train a short run in the store of the working folder, and return its outcome and the kinds of its events."""
    events: list[str] = []
    outcome = runner.execute(
        resolve(SHORT),
        Store(),
        lambda kind, data: events.append(kind),
        lambda: stop_after is not None and events.count("epoch") >= stop_after,
    )
    return outcome, events


def test_an_interrupted_run_is_resumed_in_another_store_to_the_same_weights(
    store: Store, workspace: Path, other: Callable[..., Path], noisybench: Command
) -> None:
    assert train(stop_after=2) == ("stopped", ["auxiliary", "epoch", "epoch"])
    status, output = noisybench("runs", "export", "-o", "records.zip", "--checkpoints")
    assert "Exported 2 runs, 1 checkpoint, 1 result of an auxiliary run" in output
    folder = other("second")
    status, output = noisybench("runs", "import", "../records.zip")
    assert (status, output) == (0, "Imported 2 runs, 1 checkpoint, 1 result of an auxiliary run\n")
    assert noisybench("runs", "import", "../records.zip")[1] == "Nothing to import: all 4 items are here already\n"
    assert train() == ("finished", ["epoch", "epoch"]), "the second epoch is reported again, and the third is trained"
    (resumed,) = Store().runs.records()
    assert noisybench("runs", "export", "-o", "finished.zip")[0] == 0
    other("third")
    train()
    (alone,) = Store().runs.records()
    assert resumed.weights_sha256 == alone.weights_sha256
    status, output = noisybench("runs", "import", str(folder / "finished.zip"))
    assert (status, "is here with another record, which stays" in output) == (2, True), output
    assert Store().runs.records() == [alone]
    # The first machine has the interrupted run, which the record of the second completes.
    os.chdir(workspace)
    status, output = noisybench("runs", "import", str(folder / "finished.zip"))
    assert (status, output) == (0, "Imported 1 run; 1 item was here already\n")
    assert Store().runs.records() == [resumed]
    assert noisybench("runs", "list")[1].count(resumed.identity) == 1
    status, output = noisybench("runs", "import", "records.zip")
    assert (status, output) == (0, "Nothing to import: all 4 items are here already\n")
