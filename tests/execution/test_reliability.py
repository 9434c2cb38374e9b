"""Whatever is killed in the middle: after the same commands again, the records are those of an undisturbed suite or search."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import psutil
import pytest

from noisybench.config.suite import read_suite
from noisybench.runs.preparation import prepare_run
from noisybench.search.study import finished_trials
from noisybench.tracking.store import Store
from tests import postgres
from tests.helpers import train_toy
from tests.postgres import Postgres
from tests.tracking_server import Server, serving

WRITERS, RUNS = (4, 200) if os.environ.get("NOISYBENCH_SLOW") else (2, 6)
SUITE = """
base: {recipe: digits, budget: {epochs: 2}, execution: {system_metrics: false, num_threads: 1}}
datasets: [{name: digits, train_size: 200, test_size: 100}]
stacks: [cross_entropy]
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Postgres, Server]]:
    """A tracking server over PostgreSQL."""
    with postgres.running() as database, serving(tmp_path_factory.mktemp("server"), database.url) as server:
        yield database, server


@pytest.fixture
def started() -> Iterator[Start]:
    """Start a command in its own process group, of which nothing is left after the test, however it ends."""
    with contextlib.ExitStack() as left:

        def start(*arguments: str, uri: str) -> subprocess.Popen[str]:
            command = subprocess.Popen(
                [sys.executable, "-m", "noisybench", *arguments], text=True, start_new_session=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                env={**os.environ, "MLFLOW_TRACKING_URI": uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"},
            )  # fmt: skip
            left.callback(end, command)
            return command

        yield start


def end(command: subprocess.Popen[str]) -> None:
    """Kill a command and the processes that it has started, and close its output."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(command.pid, signal.SIGKILL)
    command.communicate()


def kill_a_run(command: subprocess.Popen[str]) -> None:
    """Kill the process that trains one of a command's runs: the one that holds the lock of the run's folder."""

    def training(process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            return any(Path(each.path).name == "lock" for each in process.open_files())
        return False

    def trained() -> list[psutil.Process]:
        return [each for each in psutil.Process(command.pid).children(recursive=True) if training(each)]

    while True:
        assert command.poll() is None, "there is nothing left to kill"
        for each in trained():
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended; the next one will do
                each.kill()
                return
        time.sleep(0.02)


def lines(process: subprocess.Popen[str], mark: str) -> str:
    """Read the output of a command up to the line that starts with ``mark``."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(mark):
            return line
    return ""


def test_several_writers_lose_and_double_nothing_while_everything_is_killed_once(
    services: tuple[Postgres, Server],
    started: Start,
    noisybench: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    database, server = services
    (tmp_path / "suite.yaml").write_text(f"{SUITE}seeds: {list(range(RUNS))}\n")
    specs = read_suite("suite.yaml")
    commands = [
        ("bench", "suite.yaml", "--shard", f"{part}/{WRITERS}", "--jobs", "1") for part in range(1, WRITERS + 1)
    ]
    store = Store(server.uri)

    writers = [started(*each, uri=server.uri) for each in commands]
    assert lines(writers[0], "[1/"), "its runs are under way, so what it has started is no check of them"
    kill_a_run(writers[0])
    os.killpg(writers[1].pid, signal.SIGKILL)
    database.stop("immediate")
    time.sleep(1)
    database.start()
    server.stop()
    server.start()
    for each in writers:
        output = each.communicate(timeout=2000)[0]
        assert "Traceback" not in output
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    for each in commands:
        status, output = noisybench(*each)
        assert status == 0, output

    records = store.runs.records()
    assert sorted(each.identity for each in records) == sorted(each.identity for each in specs), "none lost, none twice"
    assert all(len(each.rows) == 2 for each in records)
    found = {each.identity: each.weights_sha256 for each in records}
    for spec in specs[:: RUNS // 6]:
        undisturbed = train_toy(prepare_run(spec), tmp_path / "undisturbed" / spec.identity)
        assert undisturbed.record({}).weights_sha256 == found[spec.identity]


def test_a_search_survives_its_services(
    services: tuple[Postgres, Server],
    started: Start,
    noisybench: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database, server = services
    arguments = (
        "search", "digits-elr", "trials=5", "pruner=none", "heartbeat_interval=2", "evaluation_seeds=[0]", "budget.epochs=4",
        "dataset.train_size=200", "dataset.test_size=100", "execution.system_metrics=false", "--jobs", "1",
    )  # fmt: skip

    searching = started(*arguments, "--storage", database.studies, uri=server.uri)
    assert lines(searching, "[1/5]")
    database.stop("immediate")
    output = searching.communicate(timeout=200)[0]
    assert searching.returncode == 2, output
    assert "cannot be used" in output or "the search has stopped" in output
    assert "Traceback" not in output
    database.start()

    storage = optuna.storages.RDBStorage(database.studies)
    (study,) = optuna.get_all_study_names(storage)
    done = len(finished_trials(optuna.load_study(study_name=study, storage=storage)))
    storage.remove_session()
    storage.engine.dispose()
    assert done >= 1
    searching = started(*arguments, "--storage", database.studies, uri=server.uri)
    assert lines(searching, "[").startswith(f"[{done + 1}/5]"), "trials of the first command count as done"
    server.stop()
    output = searching.communicate(timeout=200)[0]
    assert searching.returncode == 2, output
    assert "the search has stopped: " in output
    server.start()

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    status, output = noisybench(*arguments, "--storage", database.studies)
    assert status == 0, output
    assert "5 complete" in output
    final = 1 + ("(tuned, " in output)  # the defaults, and what was found, unless nothing is better than they are
    assert f"{final} completed, 0 skipped" in output


def test_a_search_tries_a_trial_again_whose_process_was_killed(
    services: tuple[Postgres, Server], started: Start
) -> None:
    _, server = services
    searching = started(
        "search", "digits-elr", "trials=4", "pruner=none", "evaluation_seeds=[0]", "budget.epochs=12", "dataset.train_size=200",
        "dataset.test_size=100", "execution.system_metrics=false", "--jobs", "1", "--study", "killed", uri=server.uri,
    )  # fmt: skip
    assert lines(searching, "[1/4]")
    kill_a_run(searching)
    output = searching.communicate(timeout=300)[0]
    assert searching.returncode == 0, output
    assert "signal SIGKILL" in output
    assert "4 complete" in output
