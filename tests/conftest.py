"""Every test works in a folder and a store of its own."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("MLFLOW_TRACKING_URI", None)

from noisybench.cli.app import main
from noisybench.tracking.store import Store
from tests.tracking_server import Server, serving

LONGEST = (
    "test_contracts.py", "test_reliability.py", "test_search.py", "test_web_digits.py", "test_training_dynamics.py",
    "test_commands.py", "test_ray.py", "test_segmentation.py", "test_web_methods.py",
)  # fmt: skip


# Folders and files of tests that neither train for seconds nor start a server or a browser. All of them together take
# about a minute on two cores; `pytest --durations=20 -m fast` lists the slowest.
FAST = (
    "config", "data", "evaluation", "nn", "noise_models", "training", "leaderboard/test_statistics.py",
    "leaderboard/test_leaderboard.py", "leaderboard/test_figures.py", "leaderboard/test_reproduction.py",
    "test_architecture.py", "test_docs.py", "test_doctests.py", "test_label_hashes.py", "test_language.py",
)  # fmt: skip


def is_fast(path: Path) -> bool:
    """Return True if the test file is listed in FAST or lies in a listed folder."""
    tests = Path(__file__).parent
    if not path.is_relative_to(tests):  # a doctest
        return False
    name = path.relative_to(tests).as_posix()
    return any(name == listed or name.startswith(f"{listed}/") for listed in FAST)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip the import of other test files for `-m fast`; pytest otherwise selects only after it has imported them."""
    is_test = collection_path.name.startswith("test_") and collection_path.suffix == ".py"
    return True if config.option.markexpr == "fast" and is_test and not is_fast(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark fast tests, and begin with the longest files so that no process is left alone with one at the end."""
    for item in items:
        if is_fast(item.path):
            item.add_marker("fast")
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of decoded images for the session, never the user's."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOISYBENCH_CACHE", str(cache))
    return tmp_path


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow takes seconds to make a database, so one is made and copied."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    Store(f"sqlite:///{path}").connection.client.search_experiments()
    return path


def copy_database(source: Path, target: Path) -> None:
    """Copy what is committed, also what still stands in the write-ahead log."""
    with (
        contextlib.closing(sqlite3.connect(source)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)


@pytest.fixture
def server_database(tmp_path: Path, empty_database: Path) -> Path:
    """A database for a server."""
    copy_database(empty_database, tmp_path / "server.db")
    return tmp_path / "server.db"


@pytest.fixture
def server(tmp_path: Path, server_database: Path) -> Iterator[Server]:
    """A tracking server on an SQLite file."""
    with serving(tmp_path, f"sqlite:///{server_database}") as made:
        yield made


@pytest.fixture
def store(workspace: Path, empty_database: Path) -> Store:
    """The embedded store of the working folder, without runs."""
    copy_database(empty_database, workspace / "mlflow.db")
    made = Store()
    made.connection.check()
    return made


@pytest.fixture
def noisybench(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Runs a command in this process: its exit status, and what it said.

    Its runs are processes of their own as ever, forked from one server for all commands of this process, so that what one run
    needs is imported once. What is to be killed must be started as a process instead.
    """

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["noisybench", *arguments])
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # as in a process
            with pytest.raises(SystemExit) as end:
                main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out + captured.err

    return run
