"""Run the pending runs of a suite, track progress and estimate the remaining time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from noisybench.config.spec import RunSpec
from noisybench.config.suite import unique_specs
from noisybench.execution.durations import Device, DurationEstimator
from noisybench.execution.engine import Event, Executor, run_all
from noisybench.execution.equivalence import equivalent_runs
from noisybench.execution.local import LocalExecutor
from noisybench.execution.preflight import ignore_note, preflight
from noisybench.execution.progress import Progress
from noisybench.execution.scheduler import Scheduler, checkpoint_time
from noisybench.execution.time_limit import TimeLimit
from noisybench.records.equivalence import Equivalence
from noisybench.records.schema import RunRecord
from noisybench.tracking.store import Store
from noisybench.tracking.suite_runs import with_suite_runs
from noisybench.utils.text import count_runs

AGAIN = "--again"
"""Reason to train finished runs again: the option that asks for it."""

MAX_AUTO_THREADS = 8
"""Largest number of threads of a run for which none is given: batches of small images keep no more of them busy."""

SAVED_FILES = ("save_model", "save_corrected_masks")
"""Fields of `execution` that save files of a run, which a finished run may lack."""


@dataclass
class RunPlan:
    """Runs of a command.

    Attributes:
        specs: all runs, without repetitions.
        pending: runs to train.
        equivalent: finished runs of equivalent code, by the identities of the runs in whose place they stand.
        repeated: records of finished runs that are trained again, by identity.
        reasons: options that ask to train finished runs again.
    """

    specs: list[RunSpec]
    pending: list[RunSpec]
    equivalent: dict[str, RunRecord] = field(default_factory=dict)
    repeated: dict[str, RunRecord] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    def select(self, records: Iterable[RunRecord]) -> list[RunRecord]:
        """Return the latest records of the plan's runs, and those of equivalent code that stand in for them.

        Args:
            records: finished runs, the latest first.
        """
        identities = {spec.identity for spec in self.specs} | {record.identity for record in self.equivalent.values()}
        latest: dict[str, RunRecord] = {}
        for record in records:
            if record.identity in identities:
                latest.setdefault(record.identity, record)
        return list(latest.values())

    def other_weights(self, records: Iterable[RunRecord]) -> list[RunRecord]:
        """Return the records of runs that were trained again and reached other weights than before.

        Args:
            records: finished runs, the latest first.
        """
        latest = {record.identity: record for record in reversed(list(records))}
        pairs = [(latest[identity], old) for identity, old in self.repeated.items() if identity in latest]
        return [new for new, old in pairs if new.run_id != old.run_id and new.weights_sha256 != old.weights_sha256]


@dataclass
class SuiteResult:
    """Outcome of each run of a command.

    Attributes:
        completed: runs that finished.
        stopped: runs that were interrupted.
        failed: runs that failed, with reason and traceback.
        not_started: number of runs that were not started.
        remaining: work that is left; None if the command had nothing to do.
        out_of_time: True if the time limit has left it.
        store_unavailable: True if runs failed because the tracking store could not be reached.
    """

    completed: list[RunSpec] = field(default_factory=list)
    stopped: list[RunSpec] = field(default_factory=list)
    failed: list[tuple[RunSpec, str, str]] = field(default_factory=list)
    not_started: int = 0
    remaining: RemainingWork | None = None
    out_of_time: bool = False
    store_unavailable: bool = False


def make_plan(
    specs: Sequence[RunSpec],
    records: Sequence[RunRecord],
    equivalences: Iterable[Equivalence] = (),
    again: bool = False,
    cores: int | None = None,
) -> RunPlan:
    """Return the runs of a command, and those of them to train.

    A finished run is trained again if it lacks a file that `execution` asks for.

    Args:
        specs: runs.
        records: finished runs, the latest first.
        equivalences: recorded equivalences of code; a finished run of equivalent code stands in for a run.
        again: train finished runs again.
        cores: cores of this machine, which are divided among the runs; None gives each of them one thread.
    """
    specs = unique_specs(specs) if cores is None else divide_cores(unique_specs(specs), cores)
    finished = {record.identity: record for record in reversed(records)}
    missing = {spec.identity: spec for spec in specs if spec.identity not in finished}
    plan = RunPlan(specs, [])
    for identity, record in equivalent_runs(missing.values(), records, equivalences).items():
        if not _reasons(missing[identity], record, again):
            plan.equivalent[identity] = record
    reasons = dict[str, None]()
    for spec in specs:
        earlier = finished.get(spec.identity)
        if earlier is None and spec.identity not in plan.equivalent:
            plan.pending.append(spec)
        elif earlier is not None and (found := _reasons(spec, earlier, again)):
            plan.pending.append(dataclasses.replace(spec, replaces=earlier.run_id))
            plan.repeated[spec.identity] = earlier
            reasons |= dict.fromkeys(found)
    return dataclasses.replace(plan, reasons=list(reasons))


def divide_cores(specs: Sequence[RunSpec], cores: int) -> list[RunSpec]:
    """Return runs whose number of threads is a number, also where `execution.num_threads` is ``auto``.

    It depends on all runs of a command, not on those that are left to train: a command that is interrupted and continued
    trains all its runs with the same number of threads.

    Args:
        specs: all runs of a command.
        cores: cores of this machine.

    Example:
        >>> from noisybench.config.resolve import resolve
        >>> specs = [resolve({"seed": seed}) for seed in range(3)]
        >>> [spec.num_threads for spec in divide_cores(specs, 6)], divide_cores(specs[:1], 2)[0].num_threads
        ([2, 2, 2], 2)
    """

    def threads(spec: RunSpec) -> int:
        return max(1, min(cores // (len(specs) * spec.budget.devices), MAX_AUTO_THREADS))

    return [spec if spec.execution.num_threads != "auto" else spec.with_threads(threads(spec)) for spec in specs]


def _reasons(spec: RunSpec, record: RunRecord, again: bool) -> list[str]:
    """Return the options that ask to train a finished run again."""
    saved = record.spec["execution"]
    lacking = [name for name in SAVED_FILES if getattr(spec.execution, name) and not saved.get(name)]
    return [AGAIN] if again else [f"execution.{name}=true" for name in lacking]


@dataclass(frozen=True)
class RemainingWork:
    """Runs of a command that are not finished, without those that failed.

    Attributes:
        finished: number of finished runs.
        to_resume: number of unfinished runs with a checkpoint.
        to_start: number of runs that start from their first epoch.
        seconds: estimated seconds of training for those runs whose duration is known.
        unknown: number of the other runs.
    """

    finished: int
    to_resume: int
    to_start: int
    seconds: float
    unknown: int

    def describe(self) -> str:
        """Describe what is left of a command.

        Example:
            >>> RemainingWork(finished=12, to_resume=2, to_start=19, seconds=840, unknown=0).describe()
            '12 runs finished, 2 unfinished with checkpoints, 19 not started; about 14 min left'
            >>> RemainingWork(1, 1, 1, 45, 1).describe()
            '1 run finished, 1 unfinished with a checkpoint, 1 not started; about 1 min left, and an unknown time for 1 run'
        """
        checkpoints = "a checkpoint" if self.to_resume == 1 else "checkpoints"
        minutes = f"about {max(1, round(self.seconds / 60))} min left"
        if self.unknown == self.to_resume + self.to_start:
            minutes = "the time that they take is unknown"
        elif self.unknown:
            minutes += f", and an unknown time for {count_runs(self.unknown)}"
        return (
            f"{count_runs(self.finished)} finished, {self.to_resume} unfinished with {checkpoints}, {self.to_start} not "
            f"started; {minutes}"
        )


def run_plan(
    plan: RunPlan,
    store: Store,
    records: Iterable[RunRecord],
    jobs: int | None,
    on_event: Callable[[Event, float | None], None],
    stop_level: Callable[[], int],
    executor: Executor | None = None,
    limit: TimeLimit | None = None,
    on_note: Callable[[str], None] = ignore_note,
) -> SuiteResult:
    """Validate and execute the pending runs of a plan.

    Args:
        plan: runs, from `make_plan`.
        store: store where the runs are tracked.
        records: finished runs, from which durations are estimated.
        jobs: number of parallel runs; None uses all cores or GPUs.
        on_event: called with each event and the estimated remaining seconds, or None while they are unknown.
        stop_level: 0 to continue, 1 to stop after the current epochs, 2 to stop immediately.
        executor: executor of the runs; by default processes on this machine.
        limit: time limit of the command.
        on_note: called with each note about the data that no earlier command has shown.

    Raises:
        UserError: a run is invalid, and no run is trained; or the time limit is too short for any of them to come further.
    """
    result = SuiteResult()
    if not plan.pending:
        return result
    local = LocalExecutor()
    device = preflight(local.context, plan.pending, needs_local_gpu=executor is None, on_note=on_note)
    # The machines of a cluster may have any device.
    estimator = DurationEstimator(records, device if executor is None else Device(""))
    executor = executor or local
    count = min(jobs or executor.capacity(plan.pending, device.is_gpu), len(plan.pending))
    # After the validation: a command that is refused leaves nothing behind.
    specs = with_suite_runs(store, plan.pending)
    is_blocked = False  # without a store, or with other code, no further runs start
    progress, scheduler = Progress(plan.pending, estimator, count), Scheduler(limit, estimator)
    for event in run_all(executor, specs, count, store.connection.uri, stop_level, scheduler):
        progress.update(event)
        if event.kind == "finished":
            result.completed.append(event.spec)
        elif event.kind == "stopped":
            result.stopped.append(event.spec)
        elif event.kind == "failed":
            result.failed.append((event.spec, event.data["reason"], event.data["traceback"]))
            result.store_unavailable |= bool(event.data.get("store_unavailable"))
            is_blocked |= bool(event.data.get("store_unavailable") or event.data.get("code_changed"))
            if event.data.get("killed"):
                _mark_killed(store, event)
        on_event(event, progress.seconds_left())
    result.not_started = len(plan.pending) - len(result.completed) - len(result.stopped) - len(result.failed)
    result.remaining = _remaining_work(plan, result, progress, scheduler, count)
    has_work = bool(result.stopped or result.not_started)
    result.out_of_time = limit is not None and has_work and not is_blocked and not stop_level()
    if result.out_of_time:
        scheduler.check_progress()
    return result


def _remaining_work(
    plan: RunPlan, result: SuiteResult, progress: Progress, scheduler: Scheduler, jobs: int
) -> RemainingWork:
    """Return the runs that the command has left, and the time that they would take with as many parallel runs."""
    ended = {spec.identity for spec in (*result.completed, *(spec for spec, _, _ in result.failed))}
    left = [spec for spec in plan.pending if spec.identity not in ended]
    estimates = [(scheduler.estimate(spec), progress.fraction(spec)) for spec in left]
    seconds = sum(known * (1 - fraction) for known, fraction in estimates if known is not None)
    to_resume = sum(bool(checkpoint_time(spec)) for spec in left)
    return RemainingWork(
        finished=len(plan.specs) - len(left) - len(result.failed),
        to_resume=to_resume,
        to_start=len(left) - to_resume,
        seconds=seconds / min(jobs, max(1, len(left))),
        unknown=sum(known is None for known, _ in estimates),
    )


def _mark_killed(store: Store, event: Event) -> None:
    """Track the failure of a run whose process was killed and could not do so itself."""
    file = event.spec.run_dir() / "run_id"
    if file.is_file():
        store.mark_failed(file.read_text(), event.data["reason"])
