"""Runs as people see them in MLflow and Optuna, with a real store."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR, TEMPORARILY_UNAVAILABLE

from noisybench.cli.app import main
from noisybench.config.resolve import resolve
from noisybench.tracking.presentation import run_name
from noisybench.tracking.store import Store
from tests.conftest import copy_database

SMALL = ["budget.epochs=3", "dataset.train_size=200", "dataset.test_size=100"]


@pytest.fixture(autouse=True)
def database(tmp_path: Path, empty_database: Path) -> None:
    copy_database(empty_database, tmp_path / "mlflow.db")


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Store:
    monkeypatch.setattr(sys, "argv", ["noisybench", *arguments, *SMALL, "--jobs", "1"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None)
    return Store()


def runs_of(store: Store) -> list[Run]:
    client: MlflowClient = store.connection.client
    return list(client.search_runs([store.connection.experiment]))


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"noise": {"name": "pair_flip", "rate": 0.4}, "seed": 3}, "gce · s3 · digits/pair_flip .4"),
        ({"noise": "clean"}, "gce · s0 · digits/clean"),
        ({"noise": {"name": "symmetric_exclusive", "rate": 0.0}}, "gce · s0 · digits/symmetric_exclusive 0"),
    ],
)
def test_names_begin_with_what_differs(fields: dict[str, object], name: str) -> None:
    assert run_name(resolve({"dataset": "digits", "mitigations": "gce", **fields})) == name


def test_a_run_has_tags_data_parameters_and_numbers_that_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    store = command(monkeypatch, "run", "digits", "noise=pair_flip", "noise.rate=0.4", "mitigations=elr", "seed=0")
    (run,) = runs_of(store)
    (record,) = store.runs.records()
    assert run.info.run_name == "elr · s0 · digits/pair_flip .4"
    tags = run.data.tags
    assert tags["noisybench.setting"] == "digits(train_size=200, test_size=100) · pair_flip(rate=0.4)"
    assert [tags[f"noisybench.{name}"] for name in ("dataset", "noise", "rate", "task")] == [
        "digits", "pair_flip", "0.4", "classification",
    ]  # fmt: skip
    assert tags["mlflow.source.name"].startswith("noisybench ")
    score = record.rows[-1].test_score
    assert score is not None
    standing = f"{100 * score:.1f} % by `last` over 1 seed, not ranked when this was written."
    assert tags["mlflow.note.content"] == f"{record.title}\n\n{standing} [Leaderboard](/leaderboard)"
    (data,) = run.inputs.dataset_inputs
    assert data.dataset.digest == record.label_set[:36]
    assert [(tag.key, tag.value) for tag in data.tags] == [("mlflow.data.context", "training")]
    assert "None" not in run.data.params.values()
    assert run.data.params["mitigations.elr.beta"] == "0.7"
    history = store.connection.client.get_metric_history
    assert [metric.step for metric in history(run.info.run_id, "selection/last")] == [0]
    assert [metric.step for metric in history(run.info.run_id, "test_accuracy")] == [0, 1, 2]
    # MLflow compares runs by their first metric.
    assert next(iter(run.data.metrics)) == "Score/test"
    assert [metric.step for metric in history(run.info.run_id, "Score/test")] == [0, 1, 2]
    assert run.data.metrics["Score/test"] == run.data.metrics["selection/last"]
    # The run was shorter than the interval of its system metrics.
    assert "system/cpu_utilization_percentage" in run.data.metrics
    # Messages name the whole run.
    (tracked,) = store.runs.list_runs("FINISHED")
    assert tracked.title == record.title == tags["noisybench.title"]


def test_trials_have_the_number_and_the_reason_that_optuna_has(monkeypatch: pytest.MonkeyPatch) -> None:
    store = command(
        monkeypatch,
        "search",
        "digits",
        "mitigations=elr",
        "trials=7",
        "evaluation_seeds=0",
        "execution.system_metrics=false",
    )
    trials = [run for run in runs_of(store) if "noisybench.trial_of" in run.data.tags]
    numbers = {int(run.data.tags["noisybench.trial"]): run for run in trials}
    assert sorted(numbers) == list(range(7))
    (summary,) = optuna.get_all_study_summaries("sqlite:///.noisybench/searches.db")
    study = optuna.load_study(study_name=summary.study_name, storage="sqlite:///.noisybench/searches.db")
    assert study.metric_names == ["noisy validation score"]
    for trial in study.trials:
        run = numbers[trial.number]
        assert trial.user_attrs["mlflow_run_seed_1000"] == run.info.run_id
        is_pruned = trial.state == optuna.trial.TrialState.PRUNED
        assert ("noisybench.pruned" in run.data.tags) == is_pruned
        if is_pruned:
            assert run.data.tags["noisybench.pruned"].startswith("median pruner: score ")


def test_a_run_starts_with_three_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    store.connection.check()
    spec = resolve({"dataset": "digits", "mitigations": "gce"})
    requests = list[str]()
    for name in (
        "create_run",
        "log_batch",
        "log_inputs",
        "set_tag",
        "get_run",
        "search_runs",
        "log_param",
        "update_run",
    ):
        original = getattr(MlflowClient, name)

        def counted(
            self: MlflowClient, *args: object, _name: str = name, _original=original, **options: object
        ) -> object:  # type: ignore[no-untyped-def]
            requests.append(_name)
            return _original(self, *args, **options)

        monkeypatch.setattr(MlflowClient, name, counted)
    store.start(spec, {"label_set": "0" * 64})
    assert [name for name, _ in itertools.groupby(requests)] == ["create_run", "log_batch", "log_inputs"]


def test_runs_that_start_at_once_share_a_dataset() -> None:
    store = Store()
    store.connection.check()
    client, experiment = store.connection.client, store.connection.experiment
    runs = [client.create_run(experiment).info.run_id for _ in range(8)]
    for digest in ("a", "b", "c", "d", "e"):
        inputs = [DatasetInput(Dataset("digits", digest, "local", "{}"), [])]
        together = threading.Barrier(len(runs))

        def log(run_id: str, inputs=inputs, together=together) -> None:  # type: ignore[no-untyped-def]
            together.wait()
            store.connection.log_datasets(run_id, inputs)

        with ThreadPoolExecutor(len(runs)) as threads:
            list(threads.map(log, runs))
    for run_id in runs:
        logged = client.get_run(run_id).inputs.dataset_inputs
        assert sorted(each.dataset.digest for each in logged) == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(("code", "requests"), [(BAD_REQUEST, 5), (TEMPORARILY_UNAVAILABLE, 5), (INTERNAL_ERROR, 1)])
def test_only_what_another_run_can_cause_is_tried_again(
    code: int, requests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, seen = Store(), []

    def refuse(self: MlflowClient, run_id: str, inputs: list[DatasetInput]) -> None:
        seen.append(run_id)
        raise MlflowException("refused", code)

    monkeypatch.setattr(MlflowClient, "log_inputs", refuse)
    with pytest.raises(MlflowException, match="refused"):
        store.connection.log_datasets("a", [])
    assert len(seen) == requests


def test_names_of_earlier_runs_are_their_titles() -> None:
    store = Store()
    store.connection.check()
    client = store.connection.client
    run = client.create_run(store.connection.experiment, run_name="a title", start_time=int(time.time() * 1000))
    client.set_terminated(run.info.run_id, "FINISHED")
    assert [each.title for each in store.runs.list_all("FINISHED")] == ["a title"]
