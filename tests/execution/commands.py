"""Real commands under faults: start them, wait for a moment, and find what they leave behind."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from noisybench.config.resolve import resolve
from noisybench.config.suite import read_suite
from noisybench.records.schema import RunRecord
from noisybench.runs.preparation import prepare_run
from noisybench.tracking.store import Store
from noisybench.utils.interrupts import SIGNALS
from tests.helpers import comparable_rows, train_toy

TIMEOUT = 600
"""Seconds after which a command hangs; a busy machine needs minutes for what takes seconds otherwise."""

SUITE = """
base: {recipe: digits, budget: {epochs: 60}, execution: {system_metrics: false}}
datasets: [{name: digits, train_size: 200, test_size: 100}]
stacks: [cross_entropy, elr]
seeds: [0, 1]
"""
SMALL = ("budget.epochs=15", "dataset.train_size=200", "dataset.test_size=100", "execution.system_metrics=false")
BENCH = ("bench", "suite.yaml", "--jobs", "2")
SEARCH = (
    "search", "digits-elr", "trials=4", "pruner=none", "heartbeat_interval=1", "evaluation_seeds=[0]", *SMALL, "--jobs", "2",
)  # fmt: skip
COMMANDS = {
    "list": ("list",),
    "validate": ("validate", "suite.yaml"),
    "run": ("run", "digits", *SMALL),
    "bench": BENCH,
    "search": SEARCH,
    "audit": ("audit", "digits", "dataset.train_size=300", "budget.epochs=4", "--output", "report"),
    "labels create": ("labels", "create", "digits", "noise=pair_flip", "--output", "labels"),
    "inspect": ("inspect", "digits", "noise=pair_flip", "-o", "noise.png"),
    "leaderboard": ("leaderboard", "-f", "html", "-o", "board.html"),
    "serve": ("leaderboard", "serve", "--port", "{port}"),
}
"""Commands by the names of `faults.INTERRUPTED`."""

CPU_SECONDS = {"list": 0.3, "validate": 8, "run": 12, "bench": 16, "search": 16, "audit": 8, "labels create": 3,
               "inspect": 4, "leaderboard": 4, "serve": 8}  # fmt: skip
"""CPU time in which random moments of a command lie, in seconds; independent of the load of the machine."""

NOISE = ("Traceback", "Aborted", "internal error", "Exception ignored", "leaked")
"""Parts of output that no fault may cause."""


def start(folder: Path, arguments: tuple[str, ...], **environment: str | None) -> subprocess.Popen[str]:
    """Start a command in its own process group; a variable that is None is unset."""
    variables = {**os.environ, "NOISYBENCH_TRIAL": str(folder), **environment}
    return subprocess.Popen(
        [sys.executable, "-m", "noisybench", *arguments], cwd=folder, text=True, start_new_session=True,
        env={name: value for name, value in variables.items() if value is not None},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        # A shell in the background and `nohup` ignore signals, which commands would respect.
        preexec_fn=lambda: [signal.signal(number, signal.SIG_DFL) for number in SIGNALS],
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a command and return its exit status and output."""
    try:
        output = process.communicate(timeout=TIMEOUT)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError(f"the command hangs: {process.communicate()[0]}") from None
    return process.returncode, output


def family(folder: Path) -> list[psutil.Process]:
    """Return the processes of the commands in a folder, including those that have lost their parents."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            is_ours = process.environ().get("NOISYBENCH_TRIAL") == str(folder)
            if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def check_no_process_is_left(folder: Path, seconds: float) -> None:
    """Wait until all processes of the commands in a folder have ended."""
    deadline = time.monotonic() + seconds
    while left := family(folder):
        assert time.monotonic() < deadline, [process.cmdline() for process in left]
        time.sleep(0.1)


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str], interval: float = 0.02) -> bool:
    """Wait until something holds; return False if the command ends before."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline, "the moment does not come"
        time.sleep(interval)
    return process.poll() is None


def wait_for_cpu_seconds(process: subprocess.Popen[str], seconds: float) -> bool:
    """Wait until a command with its processes has used so much CPU time; return False if it ends before."""

    def used() -> float:
        total = 0.0
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(process.pid)
            for each in (root, *root.children(recursive=True)):
                times = each.cpu_times()
                total += times.user + times.system
        return total

    begun = used()
    return wait_for(lambda: used() - begun >= seconds, process, interval=0.3)


def handles_signals(process: subprocess.Popen[str]) -> bool:
    """Return True once a command has installed its handlers, which Python itself does not for SIGTERM."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
    return False


def latest_checkpoint(folder: Path) -> int:
    """Return the time of the latest checkpoint in nanoseconds; 0 if there is none."""
    times = [0]
    for path in folder.glob(".noisybench/runs/*/checkpoint.ckpt"):
        with contextlib.suppress(FileNotFoundError):
            times.append(path.stat().st_mtime_ns)
    return max(times)


def training_processes(folder: Path) -> list[psutil.Process]:
    """Return the processes that train runs: those that hold the lock of a run's folder."""

    def trains(process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            return any(Path(file.path).name == "lock" for file in process.open_files())
        return False

    return [process for process in family(folder) if trains(process)]


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """Mount a file system in memory while the block executes; what is yielded mounts it with other options."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)

    def remount(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)

    try:
        yield remount
    finally:
        for process in family(folder):
            with contextlib.suppress(psutil.Error):
                process.kill()
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def check_runs(folder: Path, reference: dict[str, RunRecord], scratch: Path) -> int:
    """Check that no run is doubled or stuck, and that rows and weights equal those of undisturbed runs.

    Args:
        folder: working folder of the commands.
        reference: undisturbed runs by identity; runs that are absent are trained and added.
        scratch: folder for training.

    Returns:
        Number of runs.
    """
    runs = Store(f"sqlite:///{folder / 'mlflow.db'}").runs
    records = {record.identity: record for record in runs.records()}
    finished = Counter(run.tags["identity"] for run in runs.list_runs("FINISHED") if "identity" in run.tags)
    assert set(finished) >= set(records)
    assert all(finished[identity] == 1 for identity in records), "a run is recorded twice"
    for identity, record in records.items():
        if identity not in reference:
            spec = resolve({**record.spec})
            reference[identity] = train_toy(prepare_run(spec), scratch / identity).record({})
        undisturbed = reference[identity]
        assert record.weights_sha256 == undisturbed.weights_sha256, (
            "the weights differ from those of an undisturbed run"
        )
        assert comparable_rows(record.rows) == comparable_rows(undisturbed.rows)
    left = [path.name for path in folder.glob(".noisybench/runs/*")]
    assert not left, f"unfinished runs: {left}"
    return len(records)


def check_suite(folder: Path, reference: dict[str, RunRecord], scratch: Path) -> None:
    """Check the runs of `SUITE`."""
    identities = {spec.identity for spec in read_suite(str(folder / "suite.yaml"))}
    records = {record.identity for record in Store(f"sqlite:///{folder / 'mlflow.db'}").runs.records()}
    assert identities <= records, "a run is lost"
    check_runs(folder, reference, scratch)


def check_search(folder: Path, reference: dict[str, RunRecord], scratch: Path) -> None:
    """Check the trials and the final runs of `SEARCH`."""
    import optuna

    storage = f"sqlite:///{folder / '.noisybench' / 'searches.db'}"
    (name,) = optuna.get_all_study_names(storage)
    trials = optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state == optuna.trial.TrialState.COMPLETE]
    assert len(complete) == 4, "trials are lost"
    assert len({tuple(sorted(trial.params.items())) for trial in complete}) == 4, "a configuration is tried twice"
    assert all(trial.state.is_finished() for trial in trials), "a trial is stuck"
    assert check_runs(folder, reference, scratch) in (1, 2), "final runs are lost"


def stream(fault: str, number: int) -> random.Random:
    """Return the random numbers of a trial."""
    return random.Random(f"{fault} {number}")
