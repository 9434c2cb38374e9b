"""Runs of suites in MLflow: nested under one parent run per suite and setting, which counts as a run nowhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.entities import Run

import noisybench as nb
from noisybench.config.resolve import resolve
from noisybench.config.suite import read_suite
from noisybench.tracking.run_content import find_run
from noisybench.tracking.store import Store
from noisybench.tracking.suite_runs import KEY, with_suite_runs
from tests.conftest import copy_database

Command = Callable[..., tuple[int, str]]

SUITE = """
base: {dataset: {name: digits, train_size: 200, test_size: 100}, budget: {epochs: 1}, execution: {system_metrics: false}}
noise: [{name: pair_flip, rate: 0.4}, clean]
stacks: [cross_entropy, elr]
seeds: [0]
"""


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    copy_database(empty_database, tmp_path / "mlflow.db")
    Path("tiny.yaml").write_text(SUITE)
    return tmp_path


def runs_of(store: Store) -> list[Run]:
    return list(store.connection.client.search_runs([store.connection.experiment]))


def test_a_suite_identifies_no_run() -> None:
    spec = read_suite("tiny.yaml")[0]
    alone = resolve(spec.as_dict())
    assert (spec.suite, alone.suite) == ("tiny", "")
    assert (spec.identity, spec.as_dict(), spec) == (alone.identity, alone.as_dict(), alone)


def test_parents_are_created_once_and_found_again() -> None:
    store = Store()
    store.connection.check()
    specs = read_suite("tiny.yaml")
    first = with_suite_runs(store, [*specs, resolve({})])
    again = with_suite_runs(Store(), specs)
    ids = [spec.suite_run for spec in first]
    assert [spec.suite_run for spec in again] == ids[:-1]
    assert (len(set(ids[:-1])), ids[-1]) == (2, "")
    parents = runs_of(store)
    assert {run.info.run_name for run in parents} == {
        "tiny · digits(train_size=200, test_size=100) · pair_flip(rate=0.4)",
        "tiny · digits(train_size=200, test_size=100) · clean",
    }
    assert {run.info.status for run in parents} == {"FINISHED"}


def test_an_interrupted_creation_is_completed_and_a_deleted_parent_replaced() -> None:
    store = Store()
    store.connection.check()
    client, specs = store.connection.client, read_suite("tiny.yaml")[:1]
    (created,) = with_suite_runs(store, specs)
    client.delete_tag(created.suite_run, KEY)
    client.update_run(created.suite_run, status="RUNNING")
    assert with_suite_runs(store, specs)[0].suite_run == created.suite_run
    (run,) = runs_of(store)
    assert (run.info.status, run.data.tags["noisybench.suite"]) == ("FINISHED", "tiny")
    client.delete_run(created.suite_run)
    (replaced,) = with_suite_runs(store, specs)
    assert replaced.suite_run != created.suite_run
    assert with_suite_runs(store, specs)[0].suite_run == replaced.suite_run


def test_runs_of_a_suite_are_nested_and_parents_are_no_runs(workspace: Path, noisybench: Command) -> None:
    board = nb.bench("tiny.yaml", jobs=1, progress=False)
    store = Store()
    runs = runs_of(store)
    parents = {run.info.run_id: run.data.tags["noisybench.setting"] for run in runs if KEY in run.data.tags}
    children = [run for run in runs if run.info.run_id not in parents]
    assert (len(parents), len(children)) == (2, 4)
    for run in children:
        tags = run.data.tags
        assert parents[tags["mlflow.parentRunId"]] == tags["noisybench.setting"]
        assert (tags["noisybench.suite"], tags["noisybench.suite_run"]) == ("tiny", tags["mlflow.parentRunId"])
        assert "by `last` over 1 seed" in tags["mlflow.note.content"]
    # Nothing else takes a parent for a run.
    assert len(store.runs.records()) == len(store.runs.finished()) == len(store.runs.list_runs("FINISHED")) == 4
    assert (store.runs.read().excluded, set(board.results["stack"])) == ([], {"cross_entropy", "elr"})
    assert "4 finished and 0 failed runs" in noisybench("doctor")[1]
    assert noisybench("bench", "tiny.yaml")[0] == 0
    assert len(runs_of(store)) == 6


def test_parents_are_exported_and_imported_with_their_runs(
    workspace: Path, noisybench: Command, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nb.bench("tiny.yaml", "stacks=[elr]", jobs=1, progress=False)
    status, output = noisybench("runs", "export", "-o", "runs.zip")
    assert (status, "Exported 2 parents of runs of suites, 2 runs." in output) == (0, True)
    other = workspace / "other"
    other.mkdir()
    copy_database(empty_database, other / "mlflow.db")
    monkeypatch.chdir(other)
    assert "Imported 2 parents of runs of suites, 2 runs" in noisybench("runs", "import", "../runs.zip")[1]
    assert "Nothing to import: all 4 items are here already" in noisybench("runs", "import", "../runs.zip")[1]
    store = Store()
    children = store.runs.list_runs("FINISHED")
    assert len(children) == 2
    for run in children:
        assert find_run(store.connection, run.tags["suite_run"]) == (run.tags["suite_run"], "FINISHED")
    # A suite that continues here finds the imported parents.
    specs = with_suite_runs(store, read_suite(str(workspace / "tiny.yaml")))
    assert {spec.suite_run for spec in specs} == {run.tags["suite_run"] for run in children}
