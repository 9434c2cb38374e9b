"""Whole runs against real stores: embedded, a real server, and servers that go away."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pandas
import pytest
from torch import Tensor

from noisybench.errors import StoreUnavailable, TrainingError, UserError
from noisybench.evaluation.detectors import score_detection
from noisybench.records.schema import RunRecord
from noisybench.runs import runner
from noisybench.tasks._class_evaluator import ClassificationEvaluator
from noisybench.tasks._images import ImageTask
from noisybench.tracking.store import ActiveRun, Store
from noisybench.training.stack import Stack
from noisybench.utils.locks import exclusive
from tests.helpers import comparable_rows, prepared_toy, toy_spec, train_toy
from tests.tracking_server import Server

SMALL = {
    "dataset": {"name": "digits", "train_size": 200, "test_size": 100},
    "noise": {"name": "pair_flip", "rate": 0.3},
}


def execute(spec: Any, store: Store, stop_after: int | None = None) -> str:
    events: list[Any] = []
    return runner.execute(
        spec,
        store,
        lambda kind, data: events.append(data),
        lambda: stop_after is not None and len(events) >= stop_after,
    )


def only_record(store: Store) -> RunRecord:
    (record,) = store.runs.records()
    return record


def test_a_run_leaves_all_its_facts(store: Store) -> None:
    spec = toy_spec("elr", **SMALL, execution={"save_model": True})
    assert execute(spec, store) == "finished"
    record = only_record(store)
    assert record.identity == spec.identity
    assert store.runs.finished() == {spec.identity: record.run_id}

    run = store.connection.client.get_run(record.run_id)
    assert run.data.params["noise.rate"] == "0.3"
    assert run.data.params["mitigations.elr.beta"] == "0.7"
    for tag in (
        "identity",
        "label_set",
        "budget",
        "stack",
        "privileged",
        "env.torch",
        "env.device",
        "env.commit",
    ):
        assert f"noisybench.{tag}" in run.data.tags, tag
    history = store.connection.client.get_metric_history(record.run_id, "test_accuracy")
    assert [(point.step, point.value) for point in history] == [(row.epoch, row.test_score) for row in record.rows]
    assert run.data.metrics["selection/last"] == record.rows[-1].test_score

    folder = store.connection.artifact_folder(record.run_id)
    assert folder is not None
    assert {path.name for path in folder.iterdir()} == {
        "record.json", "spec.json", "manifest.json", "samples.parquet", "predictions.parquet", "validation.parquet",
        "model",
    }  # fmt: skip
    assert json.loads((folder / "manifest.json").read_text())["sha256"] == record.label_set
    assert json.loads((folder / "spec.json").read_text()) == spec.as_dict()
    samples = pandas.read_parquet(folder / "samples.parquet")
    assert list(samples.columns) == ["index", "observed", "clean", "label_quality", "prediction", "corrected_labels"]
    again = score_detection(samples["label_quality"].to_numpy(), (samples["observed"] != samples["clean"]).to_numpy())
    assert again == record.detection, "detection follows from the recorded samples"
    held_out = pandas.read_parquet(folder / "validation.parquet")
    for place, row in enumerate(record.rows):
        predicted = held_out["by_epoch"].map(lambda rows, place=place: rows[place])
        assert (predicted == held_out["observed"]).mean() == row.noisy_val_score
    predictions = pandas.read_parquet(folder / "predictions.parquet")
    by_epoch = pandas.DataFrame(predictions["by_epoch"].to_list())
    scored = [(by_epoch[epoch] == predictions["target"]).mean() for epoch in by_epoch]
    assert scored == pytest.approx([row.test_score for row in record.rows]), "accuracies follow from the predictions"
    assert not spec.run_dir().exists(), "nothing is left in the workspace"


def test_an_interrupted_run_goes_on_in_the_same_tracked_run(store: Store) -> None:
    spec = toy_spec("co_teaching", **SMALL)
    assert execute(spec, store, stop_after=1) == "stopped"
    (run,) = store.connection.client.search_runs([store.connection.experiment])
    assert run.info.status == "KILLED"
    assert execute(spec, store) == "finished"
    record = only_record(store)
    assert record.run_id == run.info.run_id
    assert len(store.connection.client.get_metric_history(record.run_id, "test_accuracy")) == 3, (
        "nothing lost or doubled"
    )


@pytest.mark.parametrize("stack", ["elr", "co_teaching"])
def test_a_run_killed_after_its_last_checkpoint_is_recorded_without_training_again(stack: str, tmp_path: Path) -> None:
    values = {"name": stack, **({"forget_rate": 0.2} if stack == "co_teaching" else {})}
    first = train_toy(prepared_toy(values), tmp_path)
    assert (tmp_path / "checkpoint.ckpt").is_file()
    again = train_toy(prepared_toy(values), tmp_path)
    assert again.complete
    assert comparable_rows(again.rows) == comparable_rows(first.rows)
    assert again.record({}).weights_sha256 == first.record({}).weights_sha256
    again.write(again.record({}), tmp_path / "pending")


def test_held_out_splits_are_predicted_once_per_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predict, calls = ImageTask.predict, list[int]()

    def counted(self: ImageTask, inputs: Any) -> Any:
        calls.append(len(inputs))
        return predict(self, inputs)

    monkeypatch.setattr(ImageTask, "predict", counted)
    first = train_toy(prepared_toy("cross_entropy"), tmp_path)
    assert len(calls) == 2 * len(first.rows), "validation and test"
    again = train_toy(prepared_toy("cross_entropy"), tmp_path)
    final = [vars(cast(ClassificationEvaluator, recorder.evaluator).predictions()) for recorder in (first, again)]
    assert all((final[0][name] == final[1][name]).all() for name in final[0])


def test_a_failing_run_is_recorded_as_failed(store: Store) -> None:
    spec = toy_spec("cross_entropy", **SMALL, budget={"learning_rate": 1e18})
    with pytest.raises(TrainingError, match=r"became (nan|inf|NaN) in epoch"):
        execute(spec, store)
    (run,) = store.connection.client.search_runs([store.connection.experiment])
    assert run.info.status == "FAILED"
    assert "decrease budget.learning_rate" in run.data.tags["noisybench.error"]
    assert spec.identity in store.runs.failed()


def test_rows_sent_twice_are_stored_once(store: Store) -> None:
    execute(toy_spec(**SMALL), store)
    record = only_record(store)
    ActiveRun(store.connection, record.run_id).log_rows(record.rows)
    ActiveRun(store.connection, record.run_id).log_rows(record.rows)
    assert len(store.connection.client.get_metric_history(record.run_id, "test_loss")) == 3


def test_a_damaged_record_is_named(store: Store) -> None:
    execute(toy_spec(**SMALL), store)
    run_id = only_record(store).run_id
    (next(Path("mlartifacts").rglob("record.json"))).write_text("{")
    stored = store.runs.read()
    assert stored.records == []
    assert f"the record of run {run_id}" in stored.excluded[0].reason
    assert "it is no JSON" in stored.excluded[0].reason


def test_what_is_too_large_for_a_record_is_not_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(toy_spec(**SMALL), store)
    monkeypatch.setattr("noisybench.tracking.reader.MAX_RECORD_BYTES", 1000)
    assert "at most 1000 are read" in store.runs.read().excluded[0].reason


def test_runs_are_listed_alike_from_tables_and_by_mlflows_search(store: Store) -> None:
    for seed in range(3):
        execute(toy_spec(**SMALL, seed=seed), store)
    deleted = store.runs.list_runs("FINISHED")[0]
    store.connection.client.delete_run(deleted.run_id)
    found = store.runs.list_runs("FINISHED")
    assert len(found) == 2
    assert found == store.runs._query_server("FINISHED")
    assert {"identity", "label_set", "budget", "stack"} <= set(found[0].tags)


def test_a_run_deleted_from_the_store_begins_anew(store: Store) -> None:
    spec = toy_spec(**SMALL)
    assert execute(spec, store, stop_after=1) == "stopped"
    (run,) = store.connection.client.search_runs([store.connection.experiment])
    store.connection.client.delete_run(run.info.run_id)
    assert execute(spec, store) == "finished"
    assert only_record(store).run_id != run.info.run_id
    assert len(store.connection.client.get_metric_history(only_record(store).run_id, "test_accuracy")) == 3


def test_the_same_run_is_not_trained_by_two(store: Store) -> None:
    spec = toy_spec(**SMALL)
    with exclusive(spec.run_dir() / "lock") as acquired:
        assert acquired
        with ThreadPoolExecutor() as pool:
            outcome = pool.submit(runner.execute, spec, store, lambda kind, data: None, lambda: True)
            assert outcome.result() == "stopped", "it waits for the other"
        waiting = threading.Thread(target=execute, args=(spec, store))
        waiting.start()
        waiting.join(1)
        assert waiting.is_alive()
    waiting.join()
    assert execute(spec, store) == "finished", "by the other, so that nothing is left to train"
    assert len(store.runs.records()) == 1


def test_system_metrics_are_sampled(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    spec = toy_spec(**SMALL, budget={"epochs": 12}, execution={"system_metrics": True})
    execute(spec, store)
    assert any(
        name.startswith("system/cpu")
        for name in store.connection.client.get_run(only_record(store).run_id).data.metrics
    )


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("sqlite:////proc/nowhere/mlflow.db", "cannot be created"),
        ("http://127.0.0.1:9", "is unavailable"),
        ("./mlruns", "no longer writes file stores"),
    ],
)
def test_a_store_that_cannot_be_used_is_refused_at_once(uri: str, message: str) -> None:
    start = time.monotonic()
    with pytest.raises(UserError, match=message):
        Store(uri).connection.check()
    assert time.monotonic() - start < 30, "the refusal must not wait for retries"


def test_a_real_server_and_its_absence(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracked over HTTP; when the server dies in the middle, training ends, and the records follow without training."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    store = Store()
    store.connection.check()
    first = toy_spec("gce", **SMALL)
    assert execute(first, store) == "finished"
    assert comparable_rows(only_record(store).rows)[-1]["epoch"] == 2

    second = toy_spec("elr", **SMALL)
    epochs: list[int] = []

    def report(kind: str, data: dict[str, Any]) -> None:
        epochs.append(data["epoch"])
        if data["epoch"] == 1:
            server.stop()

    with pytest.raises(StoreUnavailable, match="training is complete, but the tracking store could not be written"):
        runner.execute(second, store, report, lambda: False)
    assert epochs == [0, 1, 2]
    kept = json.loads((second.run_dir() / "pending" / "record.json").read_text())

    server.start()
    monkeypatch.setattr(runner, "train", lambda *_: pytest.fail("trained again"))
    assert execute(second, Store()) == "finished"
    found = {record.identity: record for record in Store().runs.records()}
    assert found[second.identity].weights_sha256 == kept["weights_sha256"]
    assert len(Store().connection.client.get_metric_history(found[second.identity].run_id, "test_accuracy")) == 3

    next((tmp_path / "artifacts").rglob(f"{found[first.identity].run_id}/artifacts/record.json")).write_text("{")
    stored = Store().runs.read()
    assert [record.identity for record in stored.records] == [second.identity]
    assert "it is no JSON" in stored.excluded[0].reason, "a damaged record excludes its run alone"


def test_an_epoch_turns_scores_into_probabilities_once_per_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def combine(stack: Stack, logits: Sequence[Tensor]) -> Tensor:
        sizes.append(len(logits[0]))
        return original(stack, logits)

    original = Stack.combine
    monkeypatch.setattr(Stack, "combine", combine)
    run = prepared_toy("cross_entropy", budget={"epochs": 2, "network": "mlp:8"})
    train_toy(run, tmp_path)
    splits = (run.dataset.test, run.dataset.train, run.dataset.validation)
    assert sizes == [len(split) for split in splits if len(split)] * 2
