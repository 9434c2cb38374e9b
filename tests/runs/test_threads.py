"""The number of threads of a run: its default, its record, and resumed runs."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

from noisybench.config.spec import RunSpec
from noisybench.execution.suite_runner import MAX_AUTO_THREADS, divide_cores, make_plan
from noisybench.records.schema import RunRecord
from noisybench.runs import runner
from noisybench.tracking.store import Store
from noisybench.utils.processes import process_context
from tests.helpers import toy_spec

SMALL = {"name": "digits", "train_size": 60, "test_size": 30}


def spec_with(threads: int | str = "auto", seed: int = 0, devices: int = 1) -> RunSpec:
    return toy_spec(
        dataset=SMALL, seed=seed, execution={"num_threads": threads}, budget={"devices": devices, "network": "mlp:8"}
    )


def execute(spec: RunSpec, store: Store, stop_after: int | None = None) -> RunRecord | None:
    events: list[Any] = []
    before = torch.get_num_threads()
    try:
        runner.execute(
            spec,
            store,
            lambda kind, data: events.append(data),
            lambda: stop_after is not None and len(events) >= stop_after,
        )
    finally:
        torch.set_num_threads(before)
    return next(iter(store.runs.records()), None)


@pytest.mark.parametrize(
    ("cores", "runs", "devices", "threads"), [(8, 1, 1, 8), (8, 3, 1, 2), (2, 72, 1, 1), (8, 1, 2, 4), (64, 1, 1, 8)]
)
def test_the_runs_of_a_command_share_the_cores(cores: int, runs: int, devices: int, threads: int) -> None:
    specs = [spec_with(seed=seed, devices=devices) for seed in range(runs)]
    assert {spec.num_threads for spec in divide_cores(specs, cores)} == {threads}
    assert threads <= MAX_AUTO_THREADS


def test_a_given_number_of_threads_is_kept() -> None:
    assert [spec.num_threads for spec in divide_cores([spec_with(3), spec_with()], 2)] == [3, 1]


def test_the_identity_does_not_depend_on_threads() -> None:
    assert spec_with(3).identity == spec_with().with_threads(2).identity == spec_with().identity


def test_threads_of_a_run_soon_sleep_while_they_wait_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    process_context()
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.delenv("OMP_WAIT_POLICY")
    process_context()
    assert os.environ["GOMP_SPINCOUNT"] == "1000"


def test_a_continued_command_keeps_the_number_of_threads(store: Store) -> None:
    specs = [spec_with(seed=seed) for seed in range(2)]
    record = execute(specs[0], store)
    assert record is not None
    (pending,) = make_plan(specs, [record], cores=8).pending
    assert pending.num_threads == 4, "as when both runs were pending"


def test_a_resumed_run_has_the_threads_of_its_checkpoint(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    assert execute(spec_with(2), store, stop_after=1) is None
    record = execute(spec_with(1), store)
    assert record is not None
    assert record.environment["threads"] == "2"
    assert record.spec["execution"]["num_threads"] == 2
    assert "number of threads of its checkpoint, 2 instead of 1" in caplog.text
    assert "delete .noisybench" in caplog.text


def test_a_run_without_a_checkpoint_has_the_threads_asked_for(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    assert execute(spec_with(2), store, stop_after=1) is None
    (spec_with(2).run_dir() / "checkpoint.ckpt").unlink()
    record = execute(spec_with(1), store)
    assert record is not None
    assert record.environment["threads"] == "1"
    assert "checkpoint" not in caplog.text
