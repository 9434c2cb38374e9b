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
