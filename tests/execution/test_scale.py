"""The work of a command for each of its runs does not grow with the number of runs."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from noisybench.config.resolve import resolve
from noisybench.config.spec import RunSpec
from noisybench.data.dataset import Dataset
from noisybench.data.label_sets.label_set import LabelSet
from noisybench.data.noise_model import NoiseModel
from noisybench.data.source import DatasetSource
from noisybench.execution import preflight
from noisybench.execution.durations import Device, DurationEstimator
from noisybench.execution.engine import Event
from noisybench.execution.progress import Progress
from noisybench.execution.scheduler import Scheduler

STACKS = ("cross_entropy", "gce", "elr")


def suite(count: int) -> list[RunSpec]:
    bases = [resolve({"mitigations": stack}) for stack in STACKS]
    return [dataclasses.replace(bases[seed % len(bases)], seed=seed) for seed in range(count)]


def count_calls(function: Callable[[], object]) -> int:
    calls = 0

    def count(_frame: FrameType, kind: str, _argument: Any) -> None:
        nonlocal calls
        calls += kind in ("call", "c_call")

    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return calls


def calls_of_a_run(count: int) -> int:
    """Return the number of function calls for the last run of a suite whose other runs are half finished."""
    specs = suite(count)
    estimator = DurationEstimator([], Device("x86_64 CPU"))
    progress, scheduler = Progress(specs, estimator, 2), Scheduler(None, estimator)

    def train(spec: RunSpec) -> None:
        events = [Event(spec, "start"), *(Event(spec, "epoch", {"epoch": n, "epochs": 5}) for n in range(5))]
        for event in (*events, Event(spec, "finished")):
            scheduler.update(event)
            progress.update(event)
            progress.seconds_left()

    for spec in specs[: count // 2]:
        train(spec)
    return count_calls(lambda: train(specs[-1]))


@pytest.mark.fast
def test_an_event_costs_the_same_in_a_suite_of_ten_times_as_many_runs() -> None:
    assert calls_of_a_run(60) == calls_of_a_run(600)


@pytest.mark.fast
def test_the_time_left_counts_each_run_and_the_trained_part_of_active_ones() -> None:
    specs = suite(6)
    estimator = DurationEstimator([], Device("x86_64 CPU"))
    estimator.add(specs[0], 10.0)
    estimator.add(specs[1], 40.0)
    progress = Progress(specs, estimator, 2)
    # Two runs of each stack; the third one is estimated by the mean of the others, 25 seconds.
    assert progress.seconds_left() == pytest.approx((2 * 10 + 2 * 40 + 2 * 25) / 2)
    progress.update(Event(specs[1], "start"))
    progress.update(Event(specs[1], "epoch", {"epoch": 0, "epochs": 4}))
    assert progress.seconds_left() == pytest.approx((2 * 10 + 1.75 * 40 + 2 * 25) / 2)
    progress.update(Event(specs[1], "stopped"))
    assert progress.seconds_left() == pytest.approx((2 * 10 + 40 + 2 * 25) / 2)


class Receiver:
    """Keep what the validation sends."""

    def send(self, message: Any) -> None:
        self.problems = message[0]


@pytest.mark.fast
def test_a_validation_loads_each_dataset_and_makes_each_label_set_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, made = [], []

    def load(source: DatasetSource) -> Dataset:
        loaded.append(source.train_size)
        return original_load(source)

    def apply(noise: NoiseModel, dataset: Dataset) -> LabelSet:
        made.append((len(dataset.train), noise.name))
        return original_apply(noise, dataset)

    original_load, original_apply = DatasetSource.load, NoiseModel.apply
    monkeypatch.setattr(DatasetSource, "load", load)
    monkeypatch.setattr(NoiseModel, "apply", apply)
    # Seeds outermost, as in a suite.
    specs = [
        resolve({"dataset": {"name": "digits", "train_size": size}, "noise": noise, "mitigations": stack, "seed": seed})
        for seed in range(2)
        for size in (100, 200)
        for noise in ("clean", "pair_flip")
        for stack in ("gce", "elr")
    ]
    receiver = Receiver()
    preflight._validate(receiver, specs, False, "none")  # type: ignore[arg-type]
    assert receiver.problems == []
    assert loaded == [100, 200]
    assert made == [(size, noise) for size in (100, 200) for noise in ("clean", "pair_flip")]


@pytest.mark.fast
def test_a_validation_reports_the_problems_of_all_datasets() -> None:
    sizes = (100, 10**6)
    specs = [
        resolve({"dataset": {"name": "digits", "train_size": size}, "noise": noise, "seed": seed})
        for seed in range(2)
        for size in sizes
        for noise in ("clean", "real_world")
    ]
    receiver = Receiver()
    preflight._validate(receiver, specs, False, "none")  # type: ignore[arg-type]
    assert [problem.split(":")[0] for problem in receiver.problems] == ["noise", "dataset.train_size"]
