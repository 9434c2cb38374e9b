"""`noisybench doctor` finds damaged stores and files, and mends them without losing a recorded run."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from noisybench.cli import doctor
from noisybench.cli.store_checks import check_store
from noisybench.tracking import database
from noisybench.tracking.store import Store
from tests.conftest import copy_database
from tests.leaderboard.test_board import keep
from tests.leaderboard.test_leaderboard import record


@pytest.fixture(autouse=True)
def quick(empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Creation of databases by a copy, which takes no seconds."""
    monkeypatch.setattr(database, "_create_tables", lambda path: copy_database(empty_database, path))


def problems() -> list[str]:
    return [check.details for check, _ in check_store() if not check.passed]


def repairs() -> list[str]:
    return [check.details for check in doctor.repair()]


def overwrite(path: Path) -> None:
    """Destroy a database beyond its first page."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    content[4096 : len(content) // 2] = b"\xff" * (len(content) // 2 - 4096)
    path.write_bytes(content)


@pytest.mark.parametrize(
    "destroy",
    [overwrite, lambda path: path.write_bytes(b"garbage" * 99), lambda path: path.write_bytes(b""), Path.unlink],
    ids=["pages", "garbage", "emptied", "deleted"],
)
def test_a_destroyed_store_is_made_again_from_the_records(
    destroy: Callable[[Path], object], store: Store, workspace: Path
) -> None:
    runs = {keep(store, each): each.seed for each in (record(seed=0), record(seed=1))}
    store.connection.client._tracking_client.store._dispose_engine()
    destroy(workspace / "mlflow.db")
    assert len(problems()) == 1
    assert any("2 finished runs" in line for line in repairs())
    assert problems() == []
    restored = Store()
    assert {each.run_id: each.seed for each in restored.runs.records()} == runs
    assert restored.runs.is_finished(record(seed=0).identity)
    run = restored.connection.client.get_run(next(iter(runs)))
    assert run.data.metrics["selection/last"] == record(seed=0).rows[-1].test_score
    # People find it as before.
    assert run.info.run_name == "gce · s0 · digits/pair_flip .4"
    tags = {name: run.data.tags[f"noisybench.{name}"] for name in ("title", "setting", "dataset", "noise", "rate")}
    assert list(tags.values()) == ["title", "digits · pair_flip(rate=0.4)", "digits", "pair_flip", "0.4"]
    (data,) = run.inputs.dataset_inputs
    assert data.dataset.digest == record().label_set[:36]


def test_a_run_of_a_missing_plug_in_is_restored_by_its_title(store: Store, workspace: Path) -> None:
    run_id = keep(store, record("not_installed", title="a stack of a plug-in"))
    store.connection.client._tracking_client.store._dispose_engine()
    (workspace / "mlflow.db").unlink()
    assert any("1 finished run" in line for line in repairs())
    (restored,) = Store().runs.list_runs("FINISHED")
    assert (restored.run_id, restored.title) == (run_id, "a stack of a plug-in")


def test_a_healthy_store_is_left_alone(store: Store, workspace: Path) -> None:
    keep(store, record())
    before = {
        path: path.read_bytes() for path in workspace.rglob("*") if path.is_file() and "mlflow.db-" not in path.name
    }
    assert repairs() == []
    findings = {check.name: check for check, _ in check_store()}
    assert "1 finished and 0 failed runs, schema " in findings["store"].details
    assert {path: path.read_bytes() for path in before} == before


def test_without_a_store_nothing_is_created(workspace: Path) -> None:
    assert problems() == []
    assert repairs() == []
    assert list(workspace.iterdir()) == []


def test_a_deleted_experiment_is_restored(store: Store) -> None:
    run_id = keep(store, record())
    store.connection.client.delete_experiment(store.connection.experiment)
    assert "is deleted" in problems()[0]
    assert repairs() == ["the deleted experiment was restored with its runs"]
    assert [each.run_id for each in Store().runs.records()] == [run_id]


def test_unreadable_runs_are_listed_and_kept(store: Store, workspace: Path) -> None:
    run_id = keep(store, record())
    (workspace / "mlartifacts" / run_id / "artifacts" / "record.json").write_text("{}")
    assert run_id in problems()[0]
    assert repairs() == []
    assert store.runs.list_runs("FINISHED")


def test_damaged_files_of_runs_are_set_aside(store: Store, workspace: Path) -> None:
    runs, auxiliary = workspace / ".noisybench" / "runs", workspace / ".noisybench" / "auxiliary"
    for folder in (runs / "a", runs / "b", auxiliary):
        folder.mkdir(parents=True)
    torch.save({"format": 1}, runs / "a" / "checkpoint.ckpt")
    for path in (runs / "b" / "checkpoint.ckpt", auxiliary / "c.pt", workspace / ".noisybench" / "searches.db"):
        path.write_bytes(b"garbage" * 999)
    (runs / "a" / ".partial-1.run_id").touch()
    (workspace / ".mlflow.db.new-1").mkdir()
    assert len(problems()) == 3
    assert len(repairs()) == 4
    assert problems() == []
    assert (runs / "a" / "checkpoint.ckpt").is_file()
    assert (runs / "b" / "checkpoint.ckpt.damaged-1").read_bytes() == b"garbage" * 999
    moved = {path.name for path in (workspace / ".noisybench" / "set-aside").iterdir()}
    assert moved == {".partial-1.run_id", ".mlflow.db.new-1"}
    assert repairs(), "files that were set aside are moved together"
    assert repairs() == []


def test_a_cache_folder_that_cannot_be_written_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._check_cache().passed
    monkeypatch.setenv("NOISYBENCH_CACHE", "/proc/cache")
    assert "set NOISYBENCH_CACHE" in doctor._check_cache().details
    assert not doctor._check_cache().passed
