"""Suites: cells x stacks x seeds. Expand, skip what is finished, execute, and say what happened."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from noisybench.config.spec import RunSpec
from noisybench.config.suite import unique_specs
from noisybench.execution.engine import Event, Executor, run_all
from noisybench.execution.local import LocalExecutor
from noisybench.execution.preflight import preflight
from noisybench.records.schema import RunRecord
from noisybench.tracking.store import Store


@dataclass
class RunPlan:
    """What a command is going to do.

    Attributes:
        specs: all runs, without repetition.
        todo: those that are not finished yet.
    """

    specs: list[RunSpec]
    todo: list[RunSpec]


@dataclass
class SuiteResult:
    """How a suite ended: the runs by outcome; failed ones with their reason."""

    finished: list[RunSpec] = field(default_factory=list)
    stopped: list[RunSpec] = field(default_factory=list)
    failed: list[tuple[RunSpec, str, str]] = field(default_factory=list)
    not_started: int = 0


def make_plan(specs: Sequence[RunSpec], records: Iterable[RunRecord]) -> RunPlan:
    """Compare what is asked for with the finished runs of a store."""
    specs = unique_specs(specs)
    finished = {record.identity for record in records}
    return RunPlan(specs, [spec for spec in specs if spec.identity not in finished])


class DurationEstimator:
    """Estimates what runs will take, from recorded ones and from those that end meanwhile."""

    def __init__(self, records: Iterable[RunRecord]) -> None:
        self._seconds: dict[tuple[str, ...], list[float]] = {}
        for record in records:
            # A process takes a little longer than what is booked inside it.
            self._add(record.dataset, record.budget, record.stack, record.cost.wall_seconds + 1)

    def learn(self, spec: RunSpec, seconds: float) -> None:
        """Take in a run that has ended."""
        self._add(spec.dataset_label, spec.budget_hash, spec.stack, seconds)

    def _add(self, dataset: str, budget: str, stack: str, seconds: float) -> None:
        for key in ((dataset, budget, stack), (dataset, budget)):
            self._seconds.setdefault(key, []).append(seconds)

    def estimate(self, spec: RunSpec) -> float | None:
        """Seconds of a run: the mean of the same stack's, else of all in that cell's budget, else None."""
        cell = (spec.dataset_label, spec.budget_hash)
        known = self._seconds.get((*cell, spec.stack)) or self._seconds.get(cell)
        return statistics.fmean(known) if known else None

    def total(self, specs: Iterable[RunSpec]) -> float | None:
        """Seconds of all runs one after the other; None while nothing is known of one of them."""
        estimates = [self.estimate(spec) for spec in specs]
        return None if None in estimates else sum(each for each in estimates if each is not None)


def run_plan(
    plan: RunPlan,
    store: Store,
    clock: DurationEstimator,
    workers: int | None,
    show: Callable[[Event, float | None], None],
    interrupted: Callable[[], int],
    engine: Executor | None = None,
) -> SuiteResult:
    """Check and execute what is to be done.

    Args:
        plan: from `make_plan`.
        store: where runs are tracked.
        clock: knows what recorded runs took.
        workers: processes at a time; None to share the cores.
        show: told of each event, and of the seconds left as far as they can be estimated.
        interrupted: 0, or 1 to stop after the epochs in flight, or 2 to stop at once.
        engine: what executes the runs; by default processes on this machine.

    Raises:
        UserError: a run is refused; nothing has been trained then.
    """
    report = SuiteResult()
    if not plan.todo:
        return report
    local = LocalExecutor(max(spec.execution.num_threads for spec in plan.todo))
    facts = preflight(local.context, plan.todo, elsewhere=engine is not None)
    engine = engine or local
    count = min(workers or engine.capacity(plan.todo, facts["gpu"]), len(plan.todo))
    progress = Progress(plan.todo, clock, count)
    for event in run_all(engine, plan.todo, count, store.connection.uri, interrupted):
        progress.take(event)
        if event.kind == "finished":
            report.finished.append(event.spec)
        elif event.kind == "stopped":
            report.stopped.append(event.spec)
        elif event.kind == "failed":
            report.failed.append((event.spec, event.data["reason"], event.data["traceback"]))
            if event.data.get("died"):
                _record_death(store, event)
        show(event, progress.seconds_left())
    report.not_started = len(plan.todo) - len(report.finished) - len(report.stopped) - len(report.failed)
    return report


def _record_death(store: Store, event: Event) -> None:
    """A process that was killed could not record its own end."""
    file = event.spec.run_dir() / "run_id"
    if file.is_file():
        store.mark_failed(file.read_text(), event.data["reason"])


class Progress:
    """How far the runs are, and how long the rest will take."""

    def __init__(self, todo: Sequence[RunSpec], clock: DurationEstimator, workers: int) -> None:
        self._waiting = {spec.identity: spec for spec in todo}
        self._started: dict[str, float] = {}
        self._share: dict[str, float] = {}
        self._clock, self._workers = clock, workers

    def take(self, event: Event) -> None:
        """Take in an event."""
        identity = event.spec.identity
        if event.kind == "start":
            self._started[identity], self._share[identity] = time.monotonic(), 0.0
        elif event.kind == "epoch":
            self._share[identity] = (event.data["epoch"] + 1) / event.data["epochs"]
        elif event.kind != "auxiliary":
            if event.kind == "finished":
                self._clock.learn(event.spec, time.monotonic() - self._started[identity])
            self._waiting.pop(identity, None)
            self._share.pop(identity, None)

    def seconds_left(self) -> float | None:
        """Estimate of the seconds until all is done; None while there is nothing to go by."""
        total = 0.0
        fallback = self._pace()
        for identity, spec in self._waiting.items():
            whole = self._clock.estimate(spec) or fallback
            if whole is None:
                return None
            total += whole * (1 - self._share.get(identity, 0.0))
        return total / min(self._workers, max(1, len(self._waiting)))

    def _pace(self) -> float | None:
        """Seconds of a whole run, from those under way."""
        now = time.monotonic()
        known = [(now - self._started[identity]) / share for identity, share in self._share.items() if share > 0]
        return statistics.fmean(known) if known else None
