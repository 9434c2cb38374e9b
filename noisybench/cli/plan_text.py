"""The plan of a dry run, with its estimated time on this machine."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from noisybench.cli.console import print_equivalent
from noisybench.utils.durations import format_duration, write_duration
from noisybench.utils.text import count_runs

if TYPE_CHECKING:
    from noisybench.config.spec import RunSpec
    from noisybench.execution.suite_runner import RunPlan
    from noisybench.execution.time_limit import TimeLimit
    from noisybench.records.schema import RunRecord


def print_plan(
    console: Console,
    plan: RunPlan,
    records: Sequence[RunRecord],
    jobs: int | None,
    limit: TimeLimit | None = None,
    on_cluster: bool = False,
) -> None:
    """Print the plan of a dry run with its estimated time.

    Args:
        console: console.
        plan: runs.
        records: finished runs; those of this device show how long runs take.
        jobs: number of parallel runs; None uses all cores, or the GPU.
        limit: time limit of the command.
        on_cluster: True if other machines train the runs.
    """
    from noisybench.execution.durations import Device, DurationEstimator
    from noisybench.execution.local import LocalExecutor
    from noisybench.execution.preflight import find_device
    from noisybench.execution.scheduler import checkpoint_time
    from noisybench.utils.processes import process_context

    finished, to_resume = (
        len(plan.specs) - len(plan.pending),
        sum(bool(checkpoint_time(spec)) for spec in plan.pending),
    )
    to_start = len(plan.pending) - to_resume
    summary = f"{count_runs(len(plan.specs))}: {finished} finished, {to_resume} to resume, {to_start} to start."
    if not plan.pending:
        print_equivalent(console, plan)
        console.print(summary)
        return
    execution = plan.pending[0].execution
    device = Device("") if on_cluster else find_device(process_context(), execution.device)
    estimator = DurationEstimator(records, device)
    estimates = [estimator.estimate(spec) for spec in plan.pending]
    jobs = min(jobs or LocalExecutor().capacity(plan.pending, device.is_gpu), len(plan.pending))
    _print_stacks(console, plan, estimates, jobs)
    print_equivalent(console, plan)
    console.print(summary)
    name = "the devices of the cluster" if on_cluster else device.describe(plan.pending[0].num_threads)
    others = sorted({record.environment.get("device", "") for record in records} - {device.name, ""})
    total = _describe_total(plan, estimates, jobs, name, device.is_gpu, others)
    console.print(f"Estimated time with {jobs} parallel run{'s' if jobs > 1 else ''} on {name}: {total}", markup=False)
    if limit is not None:
        console.print(_describe_fitting(plan.pending, estimates, jobs, limit), markup=False)


def _print_stacks(console: Console, plan: RunPlan, estimates: Sequence[float | None], jobs: int) -> None:
    """Print the pending runs of each stack in each setting."""
    groups: dict[tuple[str, str], list[float | None]] = {}
    for spec, seconds in zip(plan.pending, estimates, strict=True):
        setting = f"{spec.dataset_label} · {spec.noise.display_name(hide=('path',))}"
        groups.setdefault((setting, spec.stack), []).append(seconds)
    title = "time of all" if jobs == 1 else f"time of all, {jobs} parallel"
    table = Table("setting", "stack", "pending runs", "time per run", title, box=None, header_style="bold")
    for (setting, stack), durations in groups.items():
        seconds = durations[0]
        total = None if seconds is None else seconds * len(durations) / jobs
        times = ["not recorded" if value is None else format_duration(value) for value in (seconds, total)]
        table.add_row(setting, stack, str(len(durations)), *times)
    console.print(table)


def _describe_total(
    plan: RunPlan, estimates: Sequence[float | None], jobs: int, device: str, is_gpu: bool, others: Sequence[str]
) -> str:
    """Describe the estimated time of all pending runs, or why there is none."""
    unknown = [spec for spec, seconds in zip(plan.pending, estimates, strict=True) if seconds is None]
    elsewhere = f" (recorded on: {', '.join(others)})" if others else ""
    if len(unknown) == len(plan.pending):
        return f"unknown, no run of these stacks and settings is recorded on {device}{elsewhere}."
    seconds = sum(seconds for seconds in estimates if seconds is not None) / jobs
    total = format_duration(seconds)
    if is_gpu:
        # The runs of one command share one GPU, unless each of them uses several.
        total += f", {seconds * plan.pending[0].budget.devices / 60:.1f} GPU minutes"
    total += " if parallel runs are as fast as recorded ones" if jobs > 1 else ""
    if unknown:
        stacks = ", ".join(dict.fromkeys(spec.stack for spec in unknown))
        return (
            f"at least {total}; {count_runs(len(unknown))} more without a record of the same stack and setting on {device}: "
            f"{stacks}{elsewhere}."
        )
    return f"{total}."


def _describe_fitting(
    pending: Sequence[RunSpec], estimates: Sequence[float | None], jobs: int, limit: TimeLimit
) -> str:
    """Describe how many runs finish within a time limit, in their order."""
    # The start of a command takes about as long as the reserve for its end.
    available = limit.seconds - 2 * limit.reserve
    free = [0.0] * jobs
    fitting = 0
    for spec, seconds in zip(pending, estimates, strict=True):
        if seconds is None:
            return (
                f"Within {write_duration(limit.seconds)}, at least {fitting} of {count_runs(len(pending))} finish; the time of "
                f"the next one is unknown: {spec.title}."
            )
        end = heapq.heappop(free) + seconds
        if end > available:
            break
        heapq.heappush(free, end)
        fitting += 1
    return f"Within {write_duration(limit.seconds)}, {fitting} of {count_runs(len(pending))} finish."
