"""Every test works in a folder and a store of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("MLFLOW_TRACKING_URI", None)

from noisybench.tracking import Store


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
    folder = tmp_path_factory.mktemp("database")
    store = Store(f"sqlite:///{folder / 'mlflow.db'}")
    store.check()
    store.client.search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def store(workspace: Path, empty_database: Path) -> Iterator[Store]:
    """The embedded store of the working folder, without runs."""
    shutil.copy(empty_database, workspace / "mlflow.db")
    made = Store()
    made.client.delete_experiment(made.experiment)
    made.client.rename_experiment(made.experiment, "template")
    fresh = Store()
    fresh.check()
    return fresh
