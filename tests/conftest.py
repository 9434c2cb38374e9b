"""Fixtures: every test has its own working folder and tracking store."""

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
# A job of Slurm limits the time of commands, and the other variables change their output; worker processes of pytest have a
# width of 80 characters.
os.environ.pop("SLURM_JOB_END_TIME", None)
os.environ.pop("COLUMNS", None)
os.environ.pop("FORCE_COLOR", None)
os.environ.pop("NO_COLOR", None)
os.environ.pop("TTY_COMPATIBLE", None)

from noisybench.cli.app import main
from noisybench.config import registry
from noisybench.tracking.store import Store
from tests.tracking_server import Server, serving

LONGEST = (
    "test_contracts.py", "test_reliability.py", "test_faults.py", "test_search.py", "test_ray.py", "test_page_views.py",
    "test_hf.py", "test_training_dynamics.py", "test_browser.py", "test_commands.py", "test_gpu.py", "test_web_digits.py",
    "test_runs.py", "test_speed.py", "test_segmentation.py", "test_mask_methods.py", "test_board.py",
)  # fmt: skip
"""Files with which a run of all tests begins, the longest first, by name."""


# Folders and files of tests that neither train for seconds nor start a server or a browser. All of them together take
# about a minute on two cores; `pytest --durations=20 -m fast` lists the slowest.
FAST = (
    "api/test_detect.py", "config", "data", "evaluation", "golden", "nn", "noise_models", "training", "utils",
    "leaderboard/test_statistics.py", "leaderboard/test_codes.py", "leaderboard/test_columns.py",
    "leaderboard/test_leaderboard.py", "leaderboard/test_figures.py", "leaderboard/test_reproduction.py",
    "leaderboard/test_verdict.py", "integrations/test_losses.py",
    "cli/test_hints.py", "search/test_ranges.py", "mitigations/test_transition.py", "test_architecture.py",
    "test_docs.py", "test_docsite.py", "test_doctests.py", "test_label_hashes.py", "test_language.py", "test_packaging.py",
    "test_project.py",
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


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name arguments of raw bytes by position: compressed bytes hold the time, and processes must agree on names."""
    return argname if isinstance(val, bytes) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark fast tests, and begin with the longest files so that no process is left alone with one at the end."""
    for item in items:
        if is_fast(item.path):
            item.add_marker("fast")
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cache folder of decoded images, shared by all tests of the session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOISYBENCH_CACHE", str(cache))
    return tmp_path


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Empty MLflow database, copied for each test because MLflow takes seconds to create one."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    Store(f"sqlite:///{path}").connection.client.search_experiments()
    return path


def copy_database(source: Path, target: Path) -> None:
    """Copy all committed data, including data in the write-ahead log."""
    with (
        contextlib.closing(sqlite3.connect(source)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)


@pytest.fixture
def server_database(tmp_path: Path, empty_database: Path) -> Path:
    """Database for a server."""
    copy_database(empty_database, tmp_path / "server.db")
    return tmp_path / "server.db"


@pytest.fixture
def server(tmp_path: Path, server_database: Path) -> Iterator[Server]:
    """Tracking server with an SQLite database."""
    with serving(tmp_path, f"sqlite:///{server_database}") as running:
        yield running


@pytest.fixture
def store(workspace: Path, empty_database: Path) -> Store:
    """Embedded store of the working folder, without runs."""
    copy_database(empty_database, workspace / "mlflow.db")
    embedded = Store()
    embedded.connection.check()
    return embedded


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a third-party package as pip would: modules and a folder of metadata with entry points."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "plugins"))
    caches = (registry.list_entries, registry._installed, registry._source, registry._parse)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.fixture
def noisybench(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Run a command in this process and return its exit status and output.

    Its runs are forked from one server process for all commands, so that heavy imports happen once. A command that a test
    kills must be started as a process instead.
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
