"""Faults at random moments of real commands: the same command again completes what an undisturbed one would have done.

By default a small sample; `NOISYBENCH_SLOW=1` runs the campaign and records it in `faults.csv`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from noisybench.records.schema import RunRecord
from noisybench.tracking.store import Store
from tests.conftest import copy_database
from tests.execution import commands, faults
from tests.execution.commands import BENCH, COMMANDS, CPU_SECONDS, SEARCH, SUITE, finish, start, wait_for
from tests.postgres import free_port

Rerun = Callable[..., tuple[int, str]]

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("mount") is None, reason="only root can mount file systems"
)


def trials(key: str) -> pytest.MarkDecorator:
    """Parametrize a test with the trials of a fault: all in the campaign, else the sample."""
    fault = next(fault for fault in faults.FAULTS if fault.key == key)
    numbers = range(fault.trials) if faults.SLOW else fault.sample
    return pytest.mark.parametrize("number", numbers, ids=[f"{key}:{number}" for number in numbers])


@pytest.fixture(scope="module")
def reference() -> dict[str, RunRecord]:
    """Undisturbed runs by identity, trained when they are needed."""
    return {}


@pytest.fixture
def folder(workspace: Path) -> Path:
    """Working folder of a trial, with a suite and without a store."""
    path = workspace / "trial"
    path.mkdir()
    (path / "suite.yaml").write_text(SUITE)
    return path


@pytest.fixture
def stored(folder: Path, empty_database: Path) -> Path:
    """Working folder of a trial with an empty store, whose creation takes seconds."""
    copy_database(empty_database, folder / "mlflow.db")
    return folder


@pytest.fixture
def complete(
    noisybench: Rerun, monkeypatch: pytest.MonkeyPatch, reference: dict[str, RunRecord], tmp_path: Path
) -> Callable[[Path, tuple[str, ...]], None]:
    """Run a suite or search again in a folder, and check that nothing is lost, doubled or stuck."""

    def run(folder: Path, command: tuple[str, ...]) -> None:
        monkeypatch.chdir(folder)
        status, output = noisybench(*command)
        assert status == 0, output
        check = commands.check_search if command == SEARCH else commands.check_suite
        check(folder, reference, tmp_path / "undisturbed")
        monkeypatch.chdir(tmp_path)

    return run


def check_output(output: str) -> None:
    for part in commands.NOISE:
        assert part not in output, output


def record(fault: str, number: int, detail: str) -> None:
    if faults.SLOW:
        faults.record(fault, number, held=True, detail=detail)


@pytest.fixture(autouse=True)
def unfinished(request: pytest.FixtureRequest) -> None:
    """Record every trial of the campaign as failed until its end."""
    parameters = getattr(request.node, "callspec", None)
    if faults.SLOW and parameters is not None:
        fault, _, number = parameters.id.partition(":")
        faults.record(fault, int(number), held=False, detail="the test failed")


def kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


def strike_while_training(folder: Path, command: tuple[str, ...], delay: float, strike: Callable[[int], None]) -> str:
    """Start a command, strike a while after its first checkpoint, and return the output.

    The delay is halved when the command has ended before.
    """
    for attempt in range(6):
        process = start(folder, command)
        if wait_for(lambda: commands.has_checkpoint(folder), process):
            time.sleep(delay / 2**attempt)
            if process.poll() is None:
                strike(process.pid)
                return finish(process)[1]
        finish(process)
        for path in (*folder.glob("mlflow.db*"), *folder.glob(".noisybench/*.db*")):
            path.unlink()
    raise AssertionError("the command is too fast for this moment")


@trials("kill-store")
def test_a_store_whose_creation_is_killed_is_made_again(
    number: int, folder: Path, complete: Callable[[Path, tuple[str, ...]], None]
) -> None:
    random = commands.stream("kill-store", number)
    command = SEARCH if number % 5 == 4 else BENCH
    files = set(folder.iterdir())
    process = start(folder, command)
    wait_for(lambda: set(folder.iterdir()) - files, process)
    # Measured as CPU time: the creation takes about five seconds, on a busy machine a multiple.
    moment = random.uniform(0, 6)
    commands.wait_for_cpu_seconds(process, moment)
    os.killpg(process.pid, signal.SIGKILL)
    finish(process)
    if number % 5 >= 3:
        complete(folder, command)
    else:
        store = Store(f"sqlite:///{folder / 'mlflow.db'}")
        store.connection.check()
        assert store.runs.records() == []
    record("kill-store", number, f"{command[0]}, {moment:.2f} s of CPU time after the first file")


@trials("kill-run")
def test_a_suite_whose_run_is_killed_reports_it_and_resumes(
    number: int, stored: Path, complete: Callable[[Path, tuple[str, ...]], None]
) -> None:
    delay = commands.stream("kill-run", number).uniform(0, 2)

    def strike(pid: int) -> None:
        for process in commands.training_processes(stored)[:1]:
            kill(process)

    output = strike_while_training(stored, BENCH, delay, strike)
    assert "signal SIGKILL" in output
    assert "3 completed, 0 skipped, 1 failed" in output
    check_output(output)
    assert len(Store(f"sqlite:///{stored / 'mlflow.db'}").runs.failed()) == 1
    complete(stored, BENCH)
    record("kill-run", number, f"{delay:.2f} s after the first epoch")


@trials("kill-command")
def test_a_suite_whose_command_is_killed_resumes(
    number: int, stored: Path, complete: Callable[[Path, tuple[str, ...]], None]
) -> None:
    delay = commands.stream("kill-command", number).uniform(0, 2)
    check_output(strike_while_training(stored, BENCH, delay, lambda pid: os.kill(pid, signal.SIGKILL)))
    # At once, while runs of the killed command may still train their last epoch.
    complete(stored, BENCH)
    commands.check_no_process_is_left(stored, 60)
    record("kill-command", number, f"{delay:.2f} s after the first epoch")


@trials("kill-group")
def test_a_suite_that_is_killed_with_all_processes_resumes(
    number: int, stored: Path, complete: Callable[[Path, tuple[str, ...]], None]
) -> None:
    delay = commands.stream("kill-group", number).uniform(0, 3)
    check_output(strike_while_training(stored, BENCH, delay, lambda pid: os.killpg(pid, signal.SIGKILL)))
    complete(stored, BENCH)
    record("kill-group", number, f"{delay:.2f} s after the first epoch")


@trials("kill-search")
def test_a_search_that_is_killed_resumes(
    number: int, stored: Path, complete: Callable[[Path, tuple[str, ...]], None]
) -> None:
    delay, target = commands.stream("kill-search", number).uniform(0, 3), ("command", "trial", "group")[number % 3]

    def strike(pid: int) -> None:
        if target == "trial":
            for process in commands.training_processes(stored)[:1]:
                kill(process)
        else:
            (os.kill if target == "command" else os.killpg)(pid, signal.SIGKILL)

    check_output(strike_while_training(stored, SEARCH, delay, strike))
    complete(stored, SEARCH)
    record("kill-search", number, f"{target}, {delay:.2f} s after the first epoch")


@needs_root
@trials("full-disk")
def test_a_full_disk_is_reported_and_nothing_is_lost(
    number: int, workspace: Path, empty_database: Path, complete: Callable[[Path, tuple[str, ...]], None]
) -> None:
    folder = workspace / "disk"
    # The first disk has no space for a store, the others have some for runs beside it.
    used = 0 if number == 0 else empty_database.stat().st_size
    with commands.small_disk(folder, str(used + (1_500_000, 300_000, 800_000)[number])) as remount:
        (folder / "suite.yaml").write_text(SUITE)
        if number:
            copy_database(empty_database, folder / "mlflow.db")
        status, output = finish(start(folder, BENCH))
        assert status in (1, 2), output
        check_output(output)
        assert "space" in output or "full" in output, output
        remount("size=500m")
        complete(folder, BENCH)
    record("full-disk", number, f"{used + (1_500_000, 300_000, 800_000)[number]} bytes")


@trials("stop-continue")
def test_a_command_that_is_stopped_and_continued_finishes(
    number: int, stored: Path, complete: Callable[[Path, tuple[str, ...]], None]
) -> None:
    random = commands.stream("stop-continue", number)
    delay, pause, command = random.uniform(0, 2), random.uniform(2, 6), SEARCH if number % 2 else BENCH

    def strike(pid: int) -> None:
        os.killpg(pid, signal.SIGSTOP)
        time.sleep(pause)
        os.killpg(pid, signal.SIGCONT)

    check_output(strike_while_training(stored, command, delay, strike))
    complete(stored, command)
    record("stop-continue", number, f"{command[0]}, {pause:.1f} s")


@trials("memory")
def test_a_run_without_memory_fails_alone_and_resumes(
    number: int, stored: Path, complete: Callable[[Path, tuple[str, ...]], None]
) -> None:
    delay = commands.stream("memory", number).uniform(0, 1)

    def strike(pid: int) -> None:
        for process in commands.training_processes(stored)[:1]:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(process.pid, resource.RLIMIT_AS, (1_000_000, 1_000_000))

    output = strike_while_training(stored, BENCH, delay, strike)
    assert "Traceback" not in output
    complete(stored, BENCH)
    record("memory", number, next((line.strip() for line in output.splitlines() if "emory" in line), "finished")[:100])


@needs_root
@trials("read-only")
def test_a_read_only_folder_is_reported_before_training(number: int, workspace: Path) -> None:
    name = ("bench", "search", "audit", "labels create")[number]
    folder = workspace / "disk"
    with commands.small_disk(folder, "50m") as remount:
        (folder / "suite.yaml").write_text(SUITE)
        remount("ro")
        status, output = finish(start(folder, COMMANDS[name]))
        assert status == 2, output
        check_output(output)
        assert len(output.splitlines()) == 1, output
    record("read-only", number, name)


@trials("no-home")
def test_a_suite_needs_no_home(number: int, stored: Path, complete: Callable[[Path, tuple[str, ...]], None]) -> None:
    environment: dict[str, str | None] = {"HOME": None} if number == 0 else {"HOME": "/dev/null/home"}
    status, output = finish(start(stored, BENCH, **environment))
    assert status == 0, output
    check_output(output)
    complete(stored, BENCH)
    record("no-home", number, "unset" if number == 0 else "cannot be written")


def interrupt(
    fault: str, number: int, numbers: tuple[signal.Signals, ...], folder: Path, complete: Callable[..., None]
) -> None:
    """Send signals to a command at a random moment, and check how it ends."""
    name = faults.INTERRUPTED[number % len(faults.INTERRUPTED)]
    moment = commands.stream(fault, number).uniform(0, CPU_SECONDS[name])
    arguments = tuple(argument.format(port=free_port()) for argument in COMMANDS[name])
    for attempt in range(8):
        process = start(folder, arguments)
        wait_for(functools.partial(commands.handles_signals, process), process)
        wanted = moment / 2**attempt
        if commands.wait_for_cpu_seconds(process, wanted):
            break
        finish(process)  # it has ended before the moment
        for path in folder.glob("mlflow.db*"):
            path.unlink()
    for sent in numbers:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sent)
        time.sleep(0.5)
    begun = time.monotonic()
    status, output = finish(process)
    seconds = time.monotonic() - begun
    check_output(output)
    # A signal in the last milliseconds, after the result is printed, changes nothing.
    assert status in (128 + numbers[0], 0), output
    if status:
        assert output.splitlines()[-1].startswith("Interrupted."), output
        assert output.count("Interrupted.") == 1, output
    commands.check_no_process_is_left(folder, 2)
    if name in ("bench", "search"):
        complete(folder, arguments)
    record(fault, number, f"{name}, {wanted:.2f} s of CPU time, ended in {seconds:.1f} s, exit status {status}")


@trials("ctrl-c")
def test_ctrl_c_ends_any_command_with_one_line(number: int, folder: Path, complete: Callable[..., None]) -> None:
    interrupt("ctrl-c", number, (signal.SIGINT,), folder, complete)


@trials("ctrl-c-twice")
def test_ctrl_c_twice_ends_any_command_at_once(number: int, folder: Path, complete: Callable[..., None]) -> None:
    interrupt("ctrl-c-twice", number, (signal.SIGINT, signal.SIGINT), folder, complete)


@trials("sigterm")
def test_sigterm_ends_any_command_with_one_line(number: int, folder: Path, complete: Callable[..., None]) -> None:
    interrupt("sigterm", number, (signal.SIGTERM,), folder, complete)


@trials("sighup")
def test_sighup_ends_any_command_with_one_line(number: int, folder: Path, complete: Callable[..., None]) -> None:
    interrupt("sighup", number, (signal.SIGHUP,), folder, complete)


def test_ctrl_c_lets_active_runs_finish_their_epoch(
    stored: Path, complete: Callable[[Path, tuple[str, ...]], None]
) -> None:
    output = strike_while_training(stored, BENCH, 0.2, lambda pid: os.killpg(pid, signal.SIGINT))
    assert "Stopping after the current epochs; press Ctrl-C again to stop immediately." in output
    assert "interrupted" in output
    assert output.splitlines()[-1] == "Interrupted. Run the same command to resume."
    check_output(output)
    assert commands.has_checkpoint(stored)
    complete(stored, BENCH)


@trials("store-deleted")
def test_a_store_that_is_deleted_during_a_run_is_made_again(
    number: int, stored: Path, complete: Callable[[Path, tuple[str, ...]], None]
) -> None:
    delay = commands.stream("store-deleted", number).uniform(0, 2)

    def strike(pid: int) -> None:
        for path in stored.glob("mlflow.db*"):
            path.unlink()
        shutil.rmtree(stored / "mlartifacts", ignore_errors=True)

    check_output(strike_while_training(stored, BENCH, delay, strike))
    complete(stored, BENCH)
    record("store-deleted", number, f"{delay:.2f} s after the first epoch")


def test_the_documented_table_is_current() -> None:
    message = "run `python -m tests.execution.faults --write`"
    assert faults.DOCUMENT.read_text() == faults.documented(), message
