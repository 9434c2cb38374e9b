"""Exports and imports of runs: everything arrives, once, verified, and nothing hostile or damaged does."""

from __future__ import annotations

import contextlib
import errno
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
from noisybench.tracking.bundle_reader import Bundle
from noisybench.tracking.equivalences import EquivalenceStore
from noisybench.tracking.presentation import dataset_input
from noisybench.tracking.store import Store
from tests.conftest import copy_database
from tests.leaderboard.test_board import keep
from tests.leaderboard.test_codes import coded, equivalence
from tests.leaderboard.test_leaderboard import example_records, record
from tests.tracking_server import Server

Command = Callable[..., tuple[int, str]]

TABLES = {
    "runs": "run_uuid, name, status, start_time, end_time, lifecycle_stage, artifact_uri",
    "metrics": "run_uuid, key, timestamp, step, value, is_nan",
    "latest_metrics": "run_uuid, key, timestamp, step, value, is_nan",
    "tags": "run_uuid, key, value",
    "params": "run_uuid, key, value",
    "datasets": "name, digest, dataset_source_type, dataset_source",
    "input_tags": "name, value",
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
    client.log_inputs(run_id, [dataset_input(resolve(made.spec), made.label_set)])
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


def test_small_models_come_along_and_large_ones_are_named(
    store: Store, other: Callable[[], Path], noisybench: Command
) -> None:
    sizes = {add(store, made): size for made, size in zip(example_records(), (1_000, 4 * 2**20), strict=False)}
    for run_id, size in sizes.items():
        folder = Path("mlartifacts") / run_id / "artifacts" / "model"
        folder.mkdir()
        (folder / "model.json").write_text("{}")
        (folder / "weights.pt").write_bytes(bytes(range(250)) * (size // 250))
    status, output = noisybench("runs", "export", "-o", "records.zip")
    small, large = sizes
    assert status == 0, output
    assert f"the model of run {large}" in output
    assert "is left out, since it takes 4 MiB" in output
    other()
    status, output = noisybench("runs", "import", "../records.zip")
    assert status == 0, output
    models = {path.parts[1]: path.stat().st_size for path in Path("mlartifacts").rglob("model/weights.pt")}
    assert models == {small: 1_000}


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
    (threads,) = Path(".noisybench/runs").glob("*/num_threads")
    assert threads.read_text() == (workspace / threads).read_text(), "sums in another order give other weights"
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


def test_an_interrupted_import_is_completed_by_the_next(
    store: Store, workspace: Path, other: Callable[..., Path], noisybench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for made in example_records()[:2]:
        add(store, made)
    assert noisybench("runs", "export", "-o", "records.zip")[0] == 0
    folder = other()
    written = Bundle.write
    calls = []

    def fill_the_disk(bundle: Bundle, sha256: str, path: Path) -> None:
        calls.append(path)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        written(bundle, sha256, path)

    with monkeypatch.context() as patch:
        patch.setattr(Bundle, "write", fill_the_disk)
        status, output = noisybench("runs", "import", "../records.zip")
    assert (status, "cannot be imported: No space left on device; 1 item before it was" in output) == (2, True), output
    assert len(Store().runs.records()) == len(Store().runs.list_runs("FINISHED")) == 1
    status, output = noisybench("runs", "import", "../records.zip")
    assert "Imported 3 runs; 1 item was here already" in output
    assert rows(folder) == rows(workspace)


def test_studies_trials_and_equivalences_come_along(
    store: Store, workspace: Path, other: Callable[..., Path], noisybench: Command
) -> None:
    from mlflow.entities import RunTag

    (workspace / "study").mkdir()
    (workspace / "study" / "importances.json").write_text("{}")
    study = store.start_study("digits-elr", {"trials": 2})
    trials = [add(store, record("elr", seed)) for seed in range(2)]
    for trial in trials:
        tags = [RunTag("mlflow.parentRunId", study), RunTag("noisybench.trial_of", study)]
        store.connection.client.log_batch(trial, tags=tags)
    store.finish_study(study, {"best": 0.9}, workspace / "study")
    runs = [coded("a", "elr"), coded("b", "elr")]
    for made in runs:
        add(store, made)
    EquivalenceStore(store).write(equivalence((runs[0], runs[1])), "equivalence")
    # A study that is still searching has one finished trial.
    searching = store.start_study("another", {"trials": 2})
    trial = add(store, record("gce", 5))
    store.connection.client.log_batch(trial, tags=[RunTag("noisybench.trial_of", searching)])
    status, output = noisybench("runs", "export", "-o", "records.zip")
    assert status == 0, output
    folder = other()
    assert noisybench("runs", "import", "../records.zip")[0] == 0
    here, there = rows(folder), rows(workspace)
    assert [run for run in here["runs"] if run[0] != searching] == [run for run in there["runs"] if run[0] != searching]
    assert {**here, "runs": []} == {**there, "runs": []}
    assert Store().connection.client.get_run(searching).info.status == "KILLED"
    assert EquivalenceStore(Store()).read() == EquivalenceStore(store).read()
    assert noisybench("runs", "import", "../records.zip")[1].startswith("Nothing to import: all ")


@pytest.mark.skipif(not os.environ.get("NOISYBENCH_SLOW"), reason="NOISYBENCH_SLOW is not set")
def test_a_tracking_server_takes_and_gives_runs(
    store: Store,
    workspace: Path,
    server: Server,
    other: Callable[..., Path],
    noisybench: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for made in example_records()[:2]:
        add(store, made)
    assert noisybench("runs", "export", "-o", "records.zip")[0] == 0
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    assert "Imported 4 runs" in noisybench("runs", "import", "records.zip")[1]
    assert noisybench("runs", "import", "records.zip")[1] == "Nothing to import: all 4 items are here already\n"
    assert noisybench("runs", "export", "-o", "back.zip")[0] == 0
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    folder = other()
    assert "Imported 4 runs" in noisybench("runs", "import", "../back.zip")[1]

    def without_ids(content: dict[str, Any]) -> list[Any]:
        skipped = ("noisybench.imported", "mlflow.parentRunId")
        values = [value[1:] for value in content["metrics"]] + [value[1:6] for value in content["runs"]]
        return sorted(map(str, values + [tag[1:] for tag in content["tags"] if tag[1] not in skipped]))

    assert without_ids(rows(folder)) == without_ids(rows(workspace))
    parents = {tag[0]: tag[2] for tag in rows(folder)["tags"] if tag[1] == "mlflow.parentRunId"}
    assert set(parents.values()) == {run.run_id for run in Store().runs.list_runs("FINISHED")}
