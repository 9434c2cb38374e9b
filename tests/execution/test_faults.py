"""Faults at random moments of real commands: afterwards, the same command completes the work without a loss.

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
Complete = Callable[[Path, tuple[str, ...]], None]

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("mount") is None, reason="only root can mount file systems"
)


def trials(key: str) -> pytest.MarkDecorator:
    """Parametrize a test with the trials of a fault, in chains: all in the campaign, else the sample."""
    fault = next(fault for fault in faults.FAULTS if fault.key == key)
    numbers = range(fault.trials)
    chains = [tuple(numbers[first : first + fault.chain]) for first in range(0, fault.trials, fault.chain)]
    if not faults.SLOW:
        chains = [(number,) for number in fault.sample]
    return pytest.mark.parametrize("numbers", chains, ids=[f"{key}:{chain[0]}" for chain in chains])


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
) -> Complete:
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
        for number in parameters.params["numbers"]:
            faults.record(parameters.id.partition(":")[0], number, held=False, detail="the test failed")


def kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


def strike_while_training(folder: Path, command: tuple[str, ...], delay: float, strike: Callable[[int], None]) -> str:
    """Start a command, strike a while after its first new checkpoint, and return its output."""
    before = commands.latest_checkpoint(folder)
    process = start(folder, command)
    assert wait_for(lambda: commands.latest_checkpoint(folder) > before, process), finish(process)
    time.sleep(delay)
    assert process.poll() is None, "the command is too fast for this moment"
    strike(process.pid)
    return finish(process)[1]


def kill_a_run(folder: Path) -> None:
    """Kill a process that trains."""
    for process in commands.training_processes(folder)[:1]:
        kill(process)


@trials("kill-store")
def test_a_store_whose_creation_is_killed_is_made_again(numbers: tuple[int], folder: Path, complete: Complete) -> None:
    (number,) = numbers
    moment = commands.stream("kill-store", number).uniform(0, 6)
    command = SEARCH if number % 5 == 4 else BENCH
    files = set(folder.iterdir())
    process = start(folder, command)
    wait_for(lambda: set(folder.iterdir()) - files, process)
    # Measured as CPU time: the creation takes about five seconds, on a busy machine a multiple.
    commands.wait_for_cpu_seconds(process, moment)
    os.killpg(process.pid, signal.SIGKILL)
    finish(process)
    if number in (3, 4):
        complete(folder, command)
    else:
        store = Store(f"sqlite:///{folder / 'mlflow.db'}")
        store.connection.check()
        assert store.runs.records() == []
    record("kill-store", number, f"{command[0]}, {moment:.2f} s of CPU time after the first file")


@trials("kill-run")
def test_a_suite_whose_runs_are_killed_reports_them_and_resumes(
    numbers: tuple[int, ...], stored: Path, complete: Complete
) -> None:
    killed: set[int] = set()

    def strike(pid: int) -> None:
        for number in numbers:
            time.sleep(commands.stream("kill-run", number).uniform(0, 0.5))
            deadline = time.monotonic() + 60
            # A busy machine may not have ended the process of the previous strike yet.
            while not (training := [each for each in commands.training_processes(stored) if each.pid not in killed]):
                assert time.monotonic() < deadline, "nothing trains"
                time.sleep(0.05)
            kill(training[0])
            killed.add(training[0].pid)

    output = strike_while_training(stored, BENCH, 0, strike)
    assert "signal SIGKILL" in output
    assert f"{4 - len(killed)} completed, 0 skipped, {len(killed)} failed" in output
    check_output(output)
    # A run that is killed between taking its lock and its first entry in the store has nothing to mark.
    assert len(Store(f"sqlite:///{stored / 'mlflow.db'}").runs.failed()) <= len(killed)
    complete(stored, BENCH)
    for number in numbers:
        record("kill-run", number, "while it trained")


def kill_in_a_chain(key: str, numbers: tuple[int, ...], folder: Path, strikes: list[Callable[[int], None]]) -> None:
    """Kill a command several times in the same folder, a while after it has resumed."""
    for number in numbers:
        delay = commands.stream(key, number).uniform(0, 0.5)
        command = SEARCH if key == "kill-search" else BENCH
        check_output(strike_while_training(folder, command, delay, strikes[number % len(strikes)]))


def record_chain(key: str, numbers: tuple[int, ...]) -> None:
    for number in numbers:
        delay = commands.stream(key, number).uniform(0, 0.5)
        record(key, number, f"{delay:.2f} s after a new epoch, number {numbers.index(number) + 1} in the same folder")


@trials("kill-command")
def test_a_suite_whose_command_is_killed_resumes(numbers: tuple[int, ...], stored: Path, complete: Complete) -> None:
    # The next command starts at once, while runs of the killed one may still train their last epoch.
    kill_in_a_chain("kill-command", numbers, stored, [lambda pid: os.kill(pid, signal.SIGKILL)])
    complete(stored, BENCH)
    commands.check_no_process_is_left(stored, 60)
    record_chain("kill-command", numbers)


@trials("kill-group")
def test_a_suite_that_is_killed_with_all_processes_resumes(
    numbers: tuple[int, ...], stored: Path, complete: Complete
) -> None:
    kill_in_a_chain("kill-group", numbers, stored, [lambda pid: os.killpg(pid, signal.SIGKILL)])
    complete(stored, BENCH)
    record_chain("kill-group", numbers)


@trials("kill-search")
def test_a_search_that_is_killed_resumes(numbers: tuple[int, ...], stored: Path, complete: Complete) -> None:
    # After its trial is killed, a search continues: the last strike of a chain.
    strikes: list[Callable[[int], None]] = [
        lambda pid: os.kill(pid, signal.SIGKILL), lambda pid: os.killpg(pid, signal.SIGKILL),
        lambda pid: os.killpg(pid, signal.SIGKILL), lambda pid: kill_a_run(stored),
    ]  # fmt: skip
    kill_in_a_chain("kill-search", numbers, stored, strikes)
    complete(stored, SEARCH)
    commands.check_no_process_is_left(stored, 60)
    record_chain("kill-search", numbers)


@needs_root
@trials("full-disk")
def test_a_full_disk_is_reported_and_nothing_is_lost(
    numbers: tuple[int], workspace: Path, empty_database: Path, complete: Complete
) -> None:
    (number,) = numbers
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
    numbers: tuple[int, ...], stored: Path, complete: Complete
) -> None:
    command = SEARCH if numbers[0] else BENCH
    pauses = [commands.stream("stop-continue", number).uniform(1, 5) for number in numbers]

    def strike(pid: int) -> None:
        for pause in pauses:
            for signal_number, seconds in ((signal.SIGSTOP, pause), (signal.SIGCONT, 0.3)):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal_number)
                time.sleep(seconds)

    check_output(strike_while_training(stored, command, 0.1, strike))
    complete(stored, command)
    for number, pause in zip(numbers, pauses, strict=True):
        record("stop-continue", number, f"{command[0]}, {pause:.1f} s")


@trials("memory")
def test_a_run_without_memory_fails_alone_and_resumes(
    numbers: tuple[int, ...], stored: Path, complete: Complete
) -> None:
    def strike(pid: int) -> None:
        for process in commands.training_processes(stored)[: len(numbers)]:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(process.pid, resource.RLIMIT_AS, (1_000_000, 1_000_000))

    output = strike_while_training(stored, BENCH, 0.1, strike)
    assert "Traceback" not in output
    complete(stored, BENCH)
    reason = next((line.strip() for line in output.splitlines() if "emory" in line or "SIG" in line), "it finished")
    for number in numbers:
        record("memory", number, reason[:120])


@needs_root
@trials("read-only")
def test_a_read_only_folder_is_reported_before_training(numbers: tuple[int], workspace: Path) -> None:
    (number,) = numbers
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
def test_a_suite_needs_no_home(numbers: tuple[int], stored: Path, complete: Complete) -> None:
    (number,) = numbers
    environment: dict[str, str | None] = {"HOME": None} if number == 0 else {"HOME": "/dev/null/home"}
    status, output = finish(start(stored, BENCH, **environment))
    assert status == 0, output
    check_output(output)
    complete(stored, BENCH)
    record("no-home", number, "unset" if number == 0 else "cannot be written")


def interrupt(fault: str, number: int, numbers: tuple[signal.Signals, ...], folder: Path, complete: Complete) -> None:
    """Send signals to a command at a random moment, and check how it ends."""
    names = faults.INTERRUPTED if fault == "ctrl-c" else faults.BUSY
    name = names[number % len(names)]
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
    assert status == 128 + numbers[0] or (status == 0 and seconds < 2), output
    if status:
        assert output.splitlines()[-1].startswith("Interrupted."), output
        assert output.count("Interrupted.") == 1, output
    commands.check_no_process_is_left(folder, 2)
    if name in ("bench", "search") and number < len(names):
        complete(folder, arguments)
    record(fault, number, f"{name}, {wanted:.2f} s of CPU time, ended in {seconds:.1f} s, exit status {status}")


@trials("ctrl-c")
def test_ctrl_c_ends_any_command_with_one_line(numbers: tuple[int], folder: Path, complete: Complete) -> None:
    interrupt("ctrl-c", numbers[0], (signal.SIGINT,), folder, complete)


@trials("ctrl-c-twice")
def test_ctrl_c_twice_ends_any_command_at_once(numbers: tuple[int], folder: Path, complete: Complete) -> None:
    interrupt("ctrl-c-twice", numbers[0], (signal.SIGINT, signal.SIGINT), folder, complete)


@trials("sigterm")
def test_sigterm_ends_any_command_with_one_line(numbers: tuple[int], folder: Path, complete: Complete) -> None:
    interrupt("sigterm", numbers[0], (signal.SIGTERM,), folder, complete)


@trials("sighup")
def test_sighup_ends_any_command_with_one_line(numbers: tuple[int], folder: Path, complete: Complete) -> None:
    interrupt("sighup", numbers[0], (signal.SIGHUP,), folder, complete)


def test_ctrl_c_lets_active_runs_finish_their_epoch(stored: Path, complete: Complete) -> None:
    output = strike_while_training(stored, BENCH, 0.2, lambda pid: os.killpg(pid, signal.SIGINT))
    assert "Stopping after the current epochs; press Ctrl-C again to stop immediately." in output
    assert "interrupted" in output
    assert output.splitlines()[-1] == "Interrupted. Run the same command to resume."
    check_output(output)
    assert commands.latest_checkpoint(stored)
    complete(stored, BENCH)


@trials("store-deleted")
def test_a_store_that_is_deleted_during_a_run_is_made_again(
    numbers: tuple[int], stored: Path, complete: Complete
) -> None:
    delay = commands.stream("store-deleted", numbers[0]).uniform(0, 0.5)

    def strike(pid: int) -> None:
        for path in stored.glob("mlflow.db*"):
            path.unlink()
        shutil.rmtree(stored / "mlartifacts", ignore_errors=True)

    check_output(strike_while_training(stored, BENCH, delay, strike))
    complete(stored, BENCH)
    record("store-deleted", numbers[0], f"{delay:.2f} s after the first epoch")


def test_the_documented_table_is_current() -> None:
    message = "run `python -m tests.execution.faults --write`"
    assert faults.DOCUMENT.read_text() == faults.documented(), message
