"""Time limits: which runs start, when they stop, what is left, and how long runs take on which device."""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer

from noisybench.cli.limits import exit_after
from noisybench.cli.plan_text import print_plan
from noisybench.config.resolve import resolve
from noisybench.config.spec import RunSpec
from noisybench.config.suite import read_suite, shard
from noisybench.errors import UserError
from noisybench.execution import time_limit
from noisybench.execution.durations import Device, DurationEstimator
from noisybench.execution.engine import Event, run_all
from noisybench.execution.scheduler import Scheduler
from noisybench.execution.suite_runner import RemainingWork, SuiteResult, make_plan
from noisybench.execution.time_limit import RESERVE_SECONDS, EpochTimer, RunDeadline, TimeLimit, read_time_limit
from noisybench.records.schema import Cost, Detection, EpochRow, RunRecord
from noisybench.runs.preparation import prepare_run
from noisybench.tracking.store import Store
from noisybench.utils.console import make_console
from noisybench.utils.durations import parse_duration, write_duration
from noisybench.utils.interrupts import OUT_OF_TIME_STATUS
from tests.helpers import train_toy

GPU = Device("NVIDIA H100", is_gpu=True)
Command = Callable[..., tuple[int, str]]


class Clock:
    """Clock of a simulation, in place of the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now + 10**9


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(time_limit, "time", fake)
    return fake


def spec_of(stack: str = "elr", seed: int = 0, epochs: int = 10) -> RunSpec:
    return resolve({"mitigations": stack, "seed": seed, "budget": {"epochs": epochs}})


def limit_of(seconds: float, clock: Clock) -> TimeLimit:
    return TimeLimit(f"--time-limit {seconds:g}s", seconds, clock.now)


@dataclasses.dataclass
class FakeRun:
    """Run of a simulation: when its next epoch ends, and how many have ended."""

    spec: RunSpec
    timer: EpochTimer
    at: float
    epoch: int = 0


class FakePool:
    """Pool whose runs only take time: ``start`` seconds, those of their epochs, and a second to finish."""

    def __init__(self, clock: Clock, epochs: Callable[[RunSpec, int], float], start: float = 2.0) -> None:
        self.clock, self.epochs, self.start_seconds = clock, epochs, start
        self.active: list[FakeRun] = []
        self.killed: list[FakeRun] = []
        self.trained: dict[str, int] = {}
        self.order: list[str] = []

    def pool(self, uri: str) -> FakePool:
        return self

    def capacity(self, specs: object, gpu: bool) -> int:
        return 1

    def __len__(self) -> int:
        return len(self.active) + len(self.killed)

    def start(self, spec: RunSpec, deadline: RunDeadline | None = None) -> Event:
        timer = EpochTimer(deadline, lambda: False, self.clock.monotonic)
        done = self.trained.get(spec.identity, 0)
        self.active.append(FakeRun(spec, timer, self.clock.now + self.start_seconds + self.epochs(spec, done), done))
        self.order.append(spec.title)
        return Event(spec, "start")

    def stop(self, identity: str | None = None) -> None:
        """Do nothing: before the time is over, and without a signal, runs stop by themselves."""

    def kill(self) -> None:
        self.killed += self.active
        self.active = []

    def events(self, timeout: float = 0.2) -> Iterator[Event]:
        for run in self.killed:
            yield Event(run.spec, "stopped")
        self.killed = []
        if not self.active:
            return
        run = min(self.active, key=lambda each: each.at)
        if run.at > self.clock.now + timeout:
            self.clock.now += timeout
            return
        self.clock.now = max(self.clock.now, run.at)
        if run.epoch == run.spec.budget.epochs:
            self.active.remove(run)
            yield Event(run.spec, "finished")
            return
        run.epoch += 1
        self.trained[run.spec.identity] = run.epoch
        folder = run.spec.run_dir()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "checkpoint.ckpt").write_text(str(run.epoch))
        data = {"epoch": run.epoch - 1, "epochs": run.spec.budget.epochs}
        run.timer.record("epoch", data)
        yield Event(run.spec, "epoch", data)
        if run.timer.stop() and run.epoch < run.spec.budget.epochs:
            self.active.remove(run)
            yield Event(run.spec, "stopped")
            return
        is_last = run.epoch == run.spec.budget.epochs
        run.at = self.clock.now + (1.0 if is_last else self.epochs(run.spec, run.epoch))


def simulate(
    specs: list[RunSpec], limit: TimeLimit, pool: FakePool, estimator: DurationEstimator | None = None, jobs: int = 1
) -> tuple[list[Event], Scheduler]:
    scheduler = Scheduler(limit, estimator or DurationEstimator([], GPU), pool.clock.monotonic)
    return list(run_all(pool, specs, jobs, "", lambda: 0, scheduler)), scheduler


def record_of(
    spec: RunSpec, epochs: list[float], device: str = GPU.name, threads: int = 1, start: float = 0
) -> RunRecord:
    rows, moment = [], start
    for number, seconds in enumerate(epochs):
        moment += seconds
        # Evaluation and records take a quarter of an epoch.
        row = EpochRow(number, "train", 1.0, 0.5, 0.5, 1.0, 0.5, 1.0, None, None, None, 0.1, 0.75 * seconds, 0)
        rows.append(dataclasses.replace(row, time=int(1000 * moment)))
    total = sum(epochs)
    return RunRecord(
        spec.identity, spec.as_dict(), spec.title, spec.stack, spec.seed, spec.dataset_label, "clean", "", spec.budget_hash,
        {}, [], rows, None, None, Detection(None, None, None, None), Cost(total, 0.75 * total, total, 1, 1, 1.0), "",
        {"device": device, "threads": str(threads)}, spec.settings_hash, spec.code, task=spec.task_label,
    )  # fmt: skip


@pytest.mark.parametrize("jobs", [1, 3])
def test_runs_stop_at_the_end_of_an_epoch_and_the_command_ends_in_time(
    clock: Clock, workspace: Path, jobs: int
) -> None:
    draw = random.Random(jobs)
    for _ in range(8):
        for file in workspace.glob(".noisybench/runs/*/checkpoint.ckpt"):
            file.unlink()
        epoch = {stack: draw.uniform(0.2, 6) for stack in ("elr", "gce", "mixup")}
        specs = [spec_of(stack, seed) for seed in (0, 1) for stack in epoch]
        pool = FakePool(clock, lambda spec, number, epoch=epoch: epoch[spec.stack])  # type: ignore[misc]
        limit = limit_of(draw.uniform(30, 90), clock)
        events, scheduler = simulate(specs, limit, pool, jobs=jobs)
        assert clock.now <= limit.end - RESERVE_SECONDS + 0.2
        last = {event.spec.identity: event for event in events}
        assert all(event.kind in ("finished", "stopped") for event in last.values())
        for before, event in itertools.pairwise(events):
            # Only a run whose epochs were unknown may have been killed in the middle of one.
            if event.kind == "stopped" and jobs == 1 and event.spec.identity in pool.trained:
                assert before.kind == "epoch"
                assert before.spec == event.spec
        scheduler.check_progress()


def test_resumed_commands_finish_every_run_once(clock: Clock) -> None:
    specs = [spec_of(stack, seed) for seed in (0, 1) for stack in ("gce", "elr")]
    pool, left, commands = FakePool(clock, lambda spec, number: 3.0), specs, 0
    while left:
        limit = limit_of(40, clock)
        events, scheduler = simulate(left, limit, pool)
        scheduler.check_progress()
        finished = {event.spec.identity for event in events if event.kind == "finished"}
        left, commands = [spec for spec in left if spec.identity not in finished], commands + 1
        assert commands < 10
    assert pool.trained == {spec.identity: 10 for spec in specs}
    assert commands == 5, "4 runs of 33 s each in parts of 35 s, of which a start takes two"


def test_a_run_that_cannot_reach_its_next_checkpoint_does_not_start(clock: Clock) -> None:
    dear, cheap = spec_of("dividemix"), spec_of("gce")
    estimator = DurationEstimator([record_of(dear, [30.0] * 10), record_of(cheap, [1.0] * 10)], GPU)
    pool = FakePool(clock, lambda spec, number: 30.0 if spec.stack == "dividemix" else 1.0)
    events, _ = simulate([dear, cheap], limit_of(30, clock), pool, estimator)
    assert pool.order == [cheap.title], "the time is left for a run that can use it"
    assert events[-1].kind == "finished"


def test_a_run_stops_before_an_epoch_that_is_known_to_be_long(clock: Clock) -> None:
    spec = spec_of("dividemix")
    epochs = [1.0, 1.0, 1.0, 20.0, 20.0, 20.0, 20.0, 20.0, 20.0, 20.0]
    estimator = DurationEstimator([record_of(spec, epochs)], GPU)
    assert estimator.epochs(spec) == pytest.approx(epochs, abs=5), "the first has no row before it"
    pool = FakePool(clock, lambda spec, number: epochs[number])
    started = clock.now
    events, _ = simulate([spec], limit_of(28, clock), pool, estimator)
    assert [event.kind for event in events] == ["start", "epoch", "epoch", "epoch", "stopped"]
    assert clock.now - started < 6


def test_auxiliary_epochs_count_and_the_first_epoch_of_the_run_follows_them(clock: Clock) -> None:
    timer = EpochTimer(RunDeadline(clock.time() + 20, (9.0, 1.0)), lambda: False, clock.monotonic)
    stops = []
    for epoch in range(3):
        clock.now += 2
        timer.record("auxiliary", {"epoch": epoch, "epochs": 3, "title": "", "train_loss": 0.0})
        stops.append(timer.stop())
    assert stops == [False, False, False]
    clock.now += 4
    timer.record("auxiliary", {"epoch": 2, "epochs": 3, "title": "", "train_loss": 0.0})
    assert timer.stop(), "10 s are left, and the first epoch takes 9 s and its variation"


def test_a_limit_shorter_than_an_epoch_ends_with_what_would_do(clock: Clock) -> None:
    spec = spec_of("elr")
    pool = FakePool(clock, lambda spec, number: 60.0)
    events, scheduler = simulate([spec], limit_of(40, clock), pool)
    assert [event.kind for event in events] == ["start", "stopped"]
    with pytest.raises(
        UserError, match=r"40s is too short: in 35 s of it, no run has trained an epoch \(.*elr.*2m would"
    ):
        scheduler.check_progress()
    estimator = DurationEstimator([record_of(spec, [60.0] * 10)], GPU)
    events, scheduler = simulate([spec], limit_of(40, clock), pool, estimator)
    assert events == [], "known before a second is lost"
    with pytest.raises(UserError, match=r"to its next checkpoint is 70 s .*Nothing is lost; a limit of 2m would do"):
        scheduler.check_progress()


def test_a_limit_that_ends_before_the_first_run_is_too_short_but_the_rest_of_a_job_is_not(clock: Clock) -> None:
    limit = limit_of(30, clock)
    clock.now += 40
    _, scheduler = simulate([spec_of()], limit, FakePool(clock, lambda spec, number: 1.0))
    with pytest.raises(UserError, match="needs 40 s until its first run starts"):
        scheduler.check_progress()
    limit.is_repeatable = False
    scheduler.check_progress()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", "above zero"), ("0s", "above zero"), ("-5m", "above zero"), ("9", "such as 9s or 9m, but got `9`"),
        ("2:30", "2:30:00 or 2m30s"), ("9mm", "such as 90s"), ("", "such as 90s"), ("1.5h30m", "such as 90s"),
        ("30s1m", "such as 90s"), ("nan", "such as 90s"), ("1e9s", "such as 90s"), ("2:60:00", "such as 90s"),
        ("367d", "at most 366 days"), ("9" * 9 + "h", "at most 366 days"), ("9s", "9s is too short.*1m would do"),
    ],
)  # fmt: skip
def test_bad_limits_teach(text: str, message: str) -> None:
    with pytest.raises(UserError, match=f"--time-limit.*{message}"):
        read_time_limit(text, {})


def test_durations_are_read_and_written() -> None:
    values = {"90s": 90, "9m": 540, "1h30m": 5400, "1.5h": 5400, "2:30:00": 9000, "1-00:00:30": 86430, "1D": 86400}
    assert {text: parse_duration(text) for text in values} == values
    for seconds in (1, 59, 61, 3599, 3601, 10**5):
        assert seconds <= parse_duration(write_duration(seconds)) < seconds + 601


def test_the_end_of_a_slurm_job_is_the_limit_unless_one_is_given() -> None:
    now = time.time()
    job = {"SLURM_JOB_END_TIME": str(int(now + 600)), "SLURM_JOB_START_TIME": str(int(now - 5))}
    limit = read_time_limit(None, job)
    assert limit is not None
    assert limit.seconds == pytest.approx(600, abs=2)
    assert limit.is_repeatable
    later = read_time_limit(None, {**job, "SLURM_JOB_START_TIME": str(int(now - 500))})
    assert later is not None
    assert not later.is_repeatable, "the next job gives its first command more time"
    assert read_time_limit("none", job) is None
    given = read_time_limit("2m", job)
    assert given is not None
    assert given.seconds == 120
    for stale in (str(int(now - 60)), "", "soon", str(10**12)):
        assert read_time_limit(None, {"SLURM_JOB_END_TIME": stale}) is None


def test_durations_of_other_devices_and_threads_say_nothing() -> None:
    spec = spec_of("elr")
    cpu = Device("x86_64 CPU")
    records = [record_of(spec, [2.0] * 10), record_of(spec, [90.0] * 10, cpu.name, threads=4)]
    assert DurationEstimator(records, GPU).estimate(spec) == pytest.approx(25)
    assert DurationEstimator(records, cpu).estimate(spec.with_threads(4)) == pytest.approx(901)
    assert DurationEstimator(records, cpu).estimate(spec.with_threads(1)) is None
    assert DurationEstimator(records, Device("NVIDIA A100", is_gpu=True)).estimate(spec) is None
    assert DurationEstimator(records, Device("")).estimate(spec) is None
    other = spec_of("gce")
    estimator = DurationEstimator(records, GPU)
    assert estimator.estimate(other) is None
    assert estimator.estimate_roughly(estimator.key(other)) == pytest.approx(25)


def test_cached_auxiliary_runs_and_interruptions_are_no_time_of_a_run() -> None:
    spec = spec_of("elr")
    record = record_of(spec, [2.0] * 10)
    cost = dataclasses.replace(record.cost, wall_seconds=520.0)
    auxiliary = [{"wall_seconds": 500.0, "cached": True}]
    rows = [dataclasses.replace(row, time=row.time + (10**8 if row.epoch > 5 else 0)) for row in record.rows]
    estimator = DurationEstimator([dataclasses.replace(record, cost=cost, auxiliary=auxiliary, rows=rows)], GPU)
    assert estimator.estimate(spec) == pytest.approx(25)
    assert estimator.epochs(spec) == pytest.approx([2.0] * 6 + [4.5] + [2.0] * 3), "bounded by what others take"


def test_a_dry_run_gives_gpu_minutes_per_stack_and_says_what_is_not_recorded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    known, unknown = spec_of("elr"), spec_of("gce")
    specs = [known, spec_of("elr", 1), unknown]
    records = [record_of(spec_of("elr", 9), [6.0] * 10), record_of(spec_of("gce", 9), [60.0] * 10, "x86_64 CPU")]
    monkeypatch.setattr("noisybench.execution.preflight.find_device", lambda context, device: GPU)

    def output(runs: list[RunSpec], jobs: int | None = None, limit: TimeLimit | None = None) -> str:
        print_plan(make_console(), make_plan(runs, records), records, jobs, limit)
        return " ".join(capsys.readouterr().out.split())

    assert "elr 2 1 min 05 s 2 min 10 s" in output(specs)
    assert "on NVIDIA H100: at least 2 min 10 s, 2.2 GPU minutes; 1 run more" in output(specs)
    assert "gce 1 not recorded not recorded" in output(specs)
    assert ": gce (recorded on: x86_64 CPU)." in output(specs)
    assert "with 2 parallel runs on NVIDIA H100: 1 min 05 s, 1.1 GPU minutes if parallel runs" in output(specs[:2], 2)
    assert "unknown, no run of these stacks and settings is recorded on NVIDIA H100" in output([unknown])
    limit = TimeLimit("--time-limit 100s", 100, 0)
    assert output(specs[:2], limit=limit).endswith("Within 2m, 1 of 2 runs finish.")
    assert "at least 0 of 1 run finish; the time of the next one is unknown" in output([unknown], limit=limit)


def test_a_suite_runs_one_seed_and_one_draw_of_all_stacks_before_the_next(workspace: Path) -> None:
    Path("suite.yaml").write_text(
        "{base: {recipe: digits}, noise: [pair_flip, clean], noise_seeds: [0, 1], stacks: [gce, elr], seeds: [0, 1]}"
    )
    specs = read_suite("suite.yaml")
    order = [(spec.seed, spec.noise.parameters.get("seed", 0), spec.noise.name, spec.stack) for spec in specs]
    assert order == sorted(order, key=lambda item: item[:2]), "seeds, then draws of the noise"
    assert [stack for *_, stack in order] == ["gce", "elr"] * 6, "stacks as the suite lists them"
    parts = [shard(specs, f"{number}/5") for number in range(1, 6)]
    assert sorted(spec.identity for part in parts for spec in part) == sorted(spec.identity for spec in specs)
    assert all([spec.seed for spec in part] == sorted(spec.seed for spec in part) for part in parts)


def test_a_suite_that_stops_for_its_limit_resumes_to_the_same_weights(
    store: Store, noisybench: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Path("suite.yaml").write_text(
        "base: {recipe: digits, budget: {epochs: 3}, dataset: {name: digits, train_size: 200, test_size: 100}, "
        "execution: {system_metrics: false, num_threads: 1}}\nstacks: [cross_entropy, gce]\nseeds: [0]"
    )
    with monkeypatch.context() as patch:
        # Every run sees the end of the limit after its first epoch.
        patch.setattr(TimeLimit, "deadline", lambda self, epochs, finish: RunDeadline(time.time()))
        status, output = noisybench("bench", "suite.yaml", "--time-limit", "1h")
    assert status == OUT_OF_TIME_STATUS, output
    assert "Out of time: 0 runs finished, 2 unfinished with checkpoints, 0 not started" in output
    assert output.strip().endswith("Run the same command to resume.")
    status, output = noisybench("bench", "suite.yaml", "--time-limit", "1h")
    assert status == 0, output
    assert "2 completed, 0 skipped" in output
    assert "Out of time" not in output
    records = {record.identity: record for record in store.runs.records()}
    specs = read_suite("suite.yaml")
    assert set(records) == {spec.identity for spec in specs}
    undisturbed = train_toy(prepare_run(specs[0]), tmp_path / "undisturbed").record({})
    assert records[specs[0].identity].weights_sha256 == undisturbed.weights_sha256


@pytest.mark.parametrize(("number", "status"), [(None, 3), (signal.SIGUSR1, 75), (signal.SIGTERM, 143)])
def test_the_documented_slurm_script_queues_a_job_again_that_is_out_of_time(
    tmp_path: Path, number: signal.Signals | None, status: int
) -> None:
    document = (Path(__file__).parents[2] / "docs" / "scaling-up.md").read_text()
    script = next(part for part in document.split("```") if "#SBATCH" in part).removeprefix("bash\n")
    stand_ins = {
        "noisybench": (
            "trap 'sleep 0.2; exit 75' USR1; trap 'sleep 0.2; exit 143' TERM; echo \"$@\" > arguments; "
            f"for i in $(seq {3 if number is None else 300}); do sleep 0.1; done; exit 3"
        ),
        "scontrol": 'echo "$@" > requeued',
    }
    for name, body in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    job = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_JOB_ID": "77", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    process = subprocess.Popen(["bash", "-c", script], cwd=tmp_path, env=job)
    while not (tmp_path / "arguments").is_file() or not (tmp_path / "arguments").read_text():
        time.sleep(0.05)
    if number is not None:
        process.send_signal(number)
    assert process.wait(60) == status
    assert (tmp_path / "arguments").read_text() == "bench quickstart --shard 3/16\n"
    requeued = tmp_path / "requeued"
    assert (requeued.read_text() if requeued.is_file() else "") == ("requeue 77_3\n" if status == 75 else "")


SIGNALED = """
import os, signal, time
from noisybench.utils.interrupts import INTERRUPTS
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it starts in the background
INTERRUPTS.install("Interrupted.", is_resumable={resumable})
with INTERRUPTS.graceful(print):
    if {polled}:
        INTERRUPTS.level()
    for number in {numbers}:
        os.kill(os.getpid(), number)
        time.sleep(0.3)
    print(INTERRUPTS.level(), INTERRUPTS.signal_name, INTERRUPTS.exit_status)
"""


@pytest.mark.parametrize(
    ("resumable", "polled", "numbers", "status", "line"),
    [
        (True, True, (signal.SIGUSR1, signal.SIGUSR1), 0, "1 SIGUSR1 75"),
        (True, False, (signal.SIGUSR1,), 75, "Interrupted."),
        (False, False, (signal.SIGUSR1,), 128 + signal.SIGUSR1, "Interrupted."),
        (True, True, (signal.SIGTERM,), 0, "1 SIGTERM 143"),
        (True, True, (signal.SIGINT, signal.SIGUSR1), 0, "1 SIGINT 130"),
    ],
)
def test_sigusr1_announces_the_end_of_the_time(
    resumable: bool, polled: bool, numbers: tuple[int, ...], status: int, line: str
) -> None:
    code = SIGNALED.format(resumable=resumable, polled=polled, numbers=[int(number) for number in numbers])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, (done.stdout + done.stderr).splitlines()[-1]) == (status, line), done


def test_a_command_that_is_late_ends_at_its_limit() -> None:
    code = (
        "import time\nfrom noisybench.execution.time_limit import TimeLimit\n"
        "limit = TimeLimit('--time-limit 1s', 1, time.monotonic())\nlimit.has_progressed = {progressed}\n"
        "with limit.enforced():\n    {body}\nprint('in order')"
    )

    def run(progressed: bool, body: str) -> tuple[int, str]:
        command = [sys.executable, "-c", code.format(progressed=progressed, body=body)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    assert run(True, "time.sleep(50)") == (
        OUT_OF_TIME_STATUS,
        "Out of time: --time-limit 1s ended while the command was starting. Run the same command to resume.\n",
    )  # fmt: skip
    status, output = run(False, "time.sleep(50)")
    assert status == 2
    assert output.startswith(
        "error: --time-limit 1s is too short: it ended while the command was starting, before a run had trained an epoch"
    )
    assert run(False, "pass") == (0, "in order\n")


def test_a_late_command_says_what_it_was_doing(clock: Clock) -> None:
    limit = limit_of(60, clock)
    assert limit.activity == "starting"
    limit.set_reserve()
    assert limit.activity == "validating its runs"
    Scheduler(limit, DurationEstimator([], GPU))
    assert limit.activity == "training its runs"


def test_the_reserve_follows_the_start_of_the_command_once(clock: Clock) -> None:
    limit = limit_of(600, clock)
    clock.now += 40
    limit.set_reserve()
    clock.now += 300  # a search, before the final runs
    limit.set_reserve()
    assert (limit.reserve, limit.left()) == (20, 240)


def test_an_unavailable_store_is_not_the_end_of_the_time(clock: Clock) -> None:

    work = RemainingWork(0, 1, 1, 60.0, 0)
    failed = SuiteResult(failed=[(spec_of(), "the store is unavailable", "")], not_started=1, remaining=work)
    for result, status in ((failed, 1), (dataclasses.replace(failed, out_of_time=True), OUT_OF_TIME_STATUS)):
        with pytest.raises(typer.Exit) as end:
            exit_after(result, make_console())
        assert end.value.exit_code == status
