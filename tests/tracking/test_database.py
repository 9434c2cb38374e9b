"""The embedded database: made whole, recognized when it is not, moved, copied, and shared by processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from noisybench.errors import UserError
from noisybench.tracking import database
from noisybench.tracking.connection import Connection
from noisybench.tracking.database import create_database, database_state
from noisybench.tracking.store import Store
from noisybench.utils.sqlite import opened, unfinished_folders
from tests.conftest import copy_database
from tests.leaderboard.test_board import keep
from tests.leaderboard.test_leaderboard import record


@pytest.fixture
def quick(empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Creation of databases by a copy, which takes no seconds."""
    monkeypatch.setattr(database, "_create_tables", lambda path: copy_database(empty_database, path))


def write_tables(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


UNFINISHED = {
    "an empty file": (),
    "the first tables": ("CREATE TABLE experiments (id)", "CREATE TABLE runs (id)", "CREATE TABLE metrics (key)"),
    "a copy of a table that a migration was replacing": (
        "CREATE TABLE experiments (id)", "CREATE TABLE metrics (key, step)", "CREATE TABLE _alembic_tmp_metrics (key)",
        "CREATE TABLE alembic_version (version_num)", "INSERT INTO alembic_version VALUES ('451aebb31d03')",
    ),
    "all tables without an experiment": (
        "CREATE TABLE experiments (id)", "CREATE TABLE runs (id)", "CREATE TABLE workspaces (name)",
        "INSERT INTO workspaces VALUES ('default')", "CREATE TABLE alembic_version (version_num)",
    ),
}  # fmt: skip


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("statements", UNFINISHED.values(), ids=UNFINISHED)
def test_an_unfinished_database_is_made_again(
    statements: tuple[str, ...], workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = workspace / "mlflow.db"
    path.touch()
    write_tables(path, *statements)
    assert database_state(path) == "unfinished"
    assert not Connection().exists(), "commands that only read see no store"
    create_database(path)
    assert database_state(path) == "complete"
    assert len(caplog.messages) == bool(statements), "one line, and none for an empty file"
    assert Store().runs.records() == []
    aside = list(workspace.glob("mlflow.db.damaged-*"))
    assert len(aside) == 1, "nothing is deleted"


def test_every_state_of_a_creation_that_is_killed_is_made_again(
    workspace: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's real migrations, whose states after every commit of the first ones are left as a database."""
    made, states = workspace / "made.db", list[bytes]()

    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def keep_state(*_: object) -> None:
        content = made.read_bytes() if made.exists() else b""
        if not states or content != states[-1]:
            states.append(content)

    event.listen(Engine, "after_cursor_execute", keep_state)
    try:
        database._create_tables(made)
    finally:
        event.remove(Engine, "after_cursor_execute", keep_state)
    assert len(states) > 100
    monkeypatch.setattr(database, "_create_tables", lambda path: copy_database(empty_database, path))
    path = workspace / "mlflow.db"
    for content in states[:: len(states) // 40]:
        path.write_bytes(content)
        create_database(path)
        assert database_state(path) == "complete"
        with opened(path) as connection:
            assert connection.execute("SELECT count(*) FROM experiments").fetchone() == (2,)
        path.unlink()


def creating(path: Path) -> int:
    """Start to create a database in another process, which has imported MLflow already."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            create_database(path)
            status = 0
        finally:
            os._exit(status)
    return process


@pytest.mark.parametrize("delay", [0.0, 0.2, 0.6])
def test_a_process_killed_while_it_creates_the_store_leaves_nothing_broken(
    delay: float, workspace: Path, empty_database: Path
) -> None:
    assert empty_database.is_file()  # MLflow is imported
    path = workspace / "mlflow.db"
    process = creating(path)
    while not unfinished_folders(path):
        time.sleep(0.005)
    time.sleep(delay)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    assert not path.exists() or database_state(path) == "complete"
    both = [creating(path), creating(path)] if delay == 0.2 else [creating(path)]
    assert [os.waitpid(each, 0)[1] for each in both] == [0] * len(both), "two processes at once wait for each other"
    assert Store().runs.records() == []
    left = sorted(each.name for each in workspace.iterdir())
    assert [name for name in left if not name.startswith("mlflow.db-")] == ["mlflow.db", "mlflow.lock"]


@pytest.mark.usefixtures("quick")
def test_a_journal_of_a_deleted_database_is_not_applied_to_the_new_one(store: Store, workspace: Path) -> None:
    keep(store, record())
    reader = sqlite3.connect(workspace / "mlflow.db")  # keeps the journal from being removed
    reader.execute("SELECT * FROM runs").fetchall()
    keep(store, record(seed=1))
    assert (workspace / "mlflow.db-wal").stat().st_size
    (workspace / "mlflow.db").unlink()
    create_database(workspace / "mlflow.db")
    with opened(workspace / "mlflow.db") as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (0,)
    assert list(workspace.glob("mlflow.db-wal.damaged-1"))
    reader.close()


@contextlib.contextmanager
def full_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system of a few bytes."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=False).returncode:
        pytest.skip("mounting needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.usefixtures("quick")
def test_a_full_disk_leaves_nothing_of_the_store(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with full_disk(workspace / "small", "600k"):
        monkeypatch.chdir(workspace / "small")
        with pytest.raises(UserError, match=r"cannot be created \(.*(full|space).*free space"):
            Store().connection.check()
        assert [each.name for each in Path().iterdir() if each.name != "mlflow.lock"] == []
        monkeypatch.chdir(workspace)


@pytest.mark.usefixtures("quick")
def test_a_read_only_folder_is_read_and_refused_for_writing(
    store: Store, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(store, record())
    folder = workspace / "mounted"
    with full_disk(folder, "20M"):
        copy_database(workspace / "mlflow.db", folder / "mlflow.db")
        shutil.copytree(workspace / "mlartifacts", folder / "mlartifacts")
        (folder / "empty").mkdir()
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        monkeypatch.chdir(folder)
        assert [each.stack for each in Store().runs.records()] == ["gce"]
        with pytest.raises(UserError, match="cannot be written"):
            Store().connection.check()
        monkeypatch.chdir(folder / "empty")
        assert Store().runs.records() == []
        with pytest.raises(UserError, match="cannot be created"):
            Store().connection.check()
        monkeypatch.chdir(workspace)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user for a moment")
def test_a_folder_that_cannot_be_searched_is_named(store: Store, workspace: Path) -> None:
    workspace.chmod(0o600)
    (workspace / "mlflow.db").chmod(0o666)
    try:
        os.seteuid(65534)
        with pytest.raises(UserError, match=r"mlflow.db cannot be reached \(Permission denied: .*chmod u\+x FOLDER"):
            database_state(workspace / "mlflow.db")
    finally:
        os.seteuid(0)
        workspace.chmod(0o700)


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (("CREATE TABLE customers (name)", "INSERT INTO customers VALUES ('Ada')"), "is no MLflow database"),
        (None, "is damaged .*doctor --repair"),
    ],
)
def test_another_file_is_refused_and_kept(statements: tuple[str, ...] | None, message: str, workspace: Path) -> None:
    path = workspace / "mlflow.db"
    if statements is None:
        path.write_bytes(b"no database at all" * 1000)
    else:
        write_tables(path, *statements)
    content = path.read_bytes()
    for use in (Store().connection.check, Store().runs.records):
        with pytest.raises(UserError, match=message):
            use()
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("version", "message"),
    [("451aebb31d03", "tables of an older MLflow.*mlflow db upgrade sqlite:////"), ("fffffffffff", "newer MLflow")],
)
def test_tables_of_another_mlflow_are_not_touched(version: str, message: str, store: Store, workspace: Path) -> None:
    write_tables(workspace / "mlflow.db", f"UPDATE alembic_version SET version_num = '{version}'")
    for use in (Store().connection.check, Store().runs.records):
        with pytest.raises(UserError, match=message):
            use()


def test_a_folder_can_be_moved_and_copied(store: Store, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = keep(store, record())
    original, copy, moved = workspace / "original", workspace / "copy", workspace / "moved"
    original.mkdir()
    copy_database(workspace / "mlflow.db", original / "mlflow.db")
    (workspace / "mlartifacts").rename(original / "mlartifacts")
    shutil.copytree(original, copy)
    (copy / "mlartifacts" / first / "artifacts" / "record.json").unlink()
    copied = Store(f"sqlite:///{copy}/mlflow.db")
    assert copied.runs.records() == [], "the copy does not read the files of the original"
    before = sorted(original.rglob("*"))
    keep(copied, record(seed=1))
    assert [each.seed for each in copied.runs.records()] == [1]
    assert sorted(original.rglob("*")) == before, "the copy does not write into the original"
    original.rename(moved)
    monkeypatch.chdir(moved)
    assert [each.run_id for each in Store().runs.records()] == [first]


def test_no_path_is_stored(store: Store, workspace: Path) -> None:
    keep(store, record())
    with opened(workspace / "mlflow.db") as connection:
        dump = "\n".join(connection.iterdump())
    assert str(workspace) not in dump


def test_a_deleted_experiment_is_named_with_what_to_do(store: Store) -> None:
    store.connection.client.delete_experiment(store.connection.experiment)
    for use in (Store().connection.check, Store().runs.records):
        with pytest.raises(UserError, match="mlflow experiments restore --experiment-id"):
            use()


PAGES = """
import os, sys
os.environ["_MLFLOW_SERVER_FILE_STORE"] = "sqlite:///mlflow.db"
os.environ["_MLFLOW_SERVER_ARTIFACT_DESTINATION"] = "./mlartifacts"  # as `mlflow ui` does by default
os.environ["_MLFLOW_SERVER_SERVE_ARTIFACTS"] = "true"
from mlflow.server import app
answer = app.test_client().get(f"/get-artifact?path=record.json&run_uuid={sys.argv[1]}")
assert answer.status_code == 200 and b"identity" in answer.get_data(), answer.get_data()
"""


@pytest.mark.skipif("NOISYBENCH_SLOW" not in os.environ, reason="imports MLflow's server in another process")
def test_the_pages_of_mlflow_find_files_in_a_folder_that_was_moved(store: Store, workspace: Path) -> None:
    run_id, moved = keep(store, record()), workspace / "moved"
    moved.mkdir()
    copy_database(workspace / "mlflow.db", moved / "mlflow.db")
    (workspace / "mlartifacts").rename(moved / "mlartifacts")
    subprocess.run([sys.executable, "-c", PAGES, run_id], cwd=moved, check=True)
