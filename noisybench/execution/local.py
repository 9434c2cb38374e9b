"""Execute runs in processes on this machine.

Processes are forked from one server process that has already imported torch, Lightning and MLflow. A run therefore starts
immediately, has its own memory, and cannot take down other runs.
"""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import signal
import traceback
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

from noisybench.config.spec import RunSpec
from noisybench.errors import CodeChanged, StoreUnavailable, TrainingError, UserError
from noisybench.execution.engine import Event
from noisybench.execution.time_limit import EpochTimer, RunDeadline
from noisybench.utils.interrupts import kill_children
from noisybench.utils.processes import process_context, start_process, usable_cores


class LocalExecutor:
    """Processes on this machine, which share its cores or one GPU."""

    def __init__(self) -> None:
        self.context = process_context()

    def capacity(self, specs: Sequence[RunSpec], gpu: bool) -> int:
        """Return how many runs fit on the cores at their numbers of threads, or on the GPU at their fractions of it."""
        if gpu:
            return max(1, int(1 / max((spec.num_gpus for spec in specs), default=1)))
        return max(1, usable_cores() // max((spec.num_cores for spec in specs), default=1))

    def pool(self, uri: str) -> LocalPool:
        """Return an empty pool whose runs are tracked in the store at ``uri``."""
        return LocalPool(self.context, uri)


class LocalPool:
    """Runs in processes, each of which sends its events through a pipe and is stopped through it.

    Args:
        context: multiprocessing context, from `process_context`.
        uri: tracking URI of the store.
        environment: environment variables of the processes, such as the visible GPU.
    """

    def __init__(self, context: Any, uri: str, environment: Mapping[str, str] | None = None) -> None:
        self._context, self._uri, self._environment = context, uri, dict(environment or {})
        self._active: dict[Connection, tuple[RunSpec, Any]] = {}
        self._stopped: set[str] = set()
        self._killed: set[str] = set()

    def __len__(self) -> int:
        """Return the number of active runs."""
        return len(self._active)

    def start(self, spec: RunSpec, deadline: RunDeadline | None = None) -> Event:
        """Start a run, which stops by itself before its deadline, and return its ``start`` event."""
        # No `Event`, whose semaphores would outlive a command that is killed.
        receiver, sender = self._context.Pipe()
        process = start_process(
            self._context,
            _run,
            (sender, spec, self._uri, os.getcwd(), self._environment, deadline),
            daemon=spec.budget.devices == 1,  # a daemon cannot start the processes of further devices
        )
        # If this process kept a copy of the other end, a run that is killed would never appear as end of file.
        sender.close()
        self._active[receiver] = (spec, process)
        return Event(spec, "start")

    def stop(self, identity: str | None = None) -> None:
        """Ask one run, or all, to stop after the current epoch."""
        for receiver, (spec, _) in self._active.items():
            # Once per run: the pipe of a run that does not read would fill up.
            if identity in (None, spec.identity) and spec.identity not in self._stopped:
                self._stopped.add(spec.identity)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the run has just ended
                    receiver.send("stop")

    def kill(self) -> None:
        """Kill all runs; their checkpoints are kept."""
        for spec, process in self._active.values():
            # Distinguishes this end from a kill by the operating system, which has the same exit code.
            self._killed.add(spec.identity)
            kill_children(process.pid)
            process.kill()

    def events(self, timeout: float = 0.2) -> Iterator[Event]:
        """Wait briefly for events and yield them; the last event of each run is its outcome."""
        for ready in wait(list(self._active), timeout=timeout):
            assert isinstance(ready, Connection)
            spec, process = self._active[ready]
            try:
                event: Event = ready.recv()
            except (EOFError, ConnectionResetError):
                # The process ended without sending an outcome, for instance because memory ran out.
                process.join()
                event = _exit_event(spec, process.exitcode, spec.identity in self._killed)
            yield event
            if event.kind in ("finished", "stopped", "failed"):
                # Waits for the exit, so that cores and GPU memory are free before the next run starts.
                process.join()
                ready.close()
                del self._active[ready]


def _exit_event(spec: RunSpec, code: int | None, killed_by_pool: bool) -> Event:
    """Return the outcome of a run whose process ended without an event."""
    if killed_by_pool:
        return Event(spec, "stopped")
    reason = f"its process ended with {exit_reason(code)}; rerun the same command to resume from the last epoch"
    return Event(spec, "failed", {"reason": reason, "traceback": "", "killed": True})


def exit_reason(code: int | None) -> str:
    """Describe the exit code of a process.

    Example:
        >>> exit_reason(-9)
        'signal SIGKILL (killed, possibly out of memory)'
        >>> exit_reason(3)
        'exit status 3'
    """
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-code).name
            return f"signal {name}" + (" (killed, possibly out of memory)" if name == "SIGKILL" else "")
    return f"exit status {code}"


def error_reason(error: Exception) -> str:
    """Describe an unexpected error in one line.

    Example:
        >>> error_reason(OSError(errno.ENOSPC, "No space left on device"))
        'a file cannot be written: no space left on device; free some space and rerun the same command'
        >>> error_reason(KeyError("x"))
        "KeyError: 'x'"
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason = (error.strerror or "no space").lower()
        return f"{error.filename or 'a file'} cannot be written: {reason}; free some space and rerun the same command"
    message = str(error).strip()
    return f"{type(error).__name__}: {message.splitlines()[0] if message else ''}"


def _run(
    sender: Connection,
    spec: RunSpec,
    uri: str,
    folder: str,
    environment: Mapping[str, str],
    deadline: RunDeadline | None,
) -> None:
    """Execute one run in its process and send its events."""
    os.chdir(folder)  # the fork server may have started in another folder
    # The environment is that of the fork server, which does not see variables that were set after its start.
    os.environ.update(environment)
    from noisybench.runs.runner import execute
    from noisybench.tracking.store import Store

    def send(event: Event) -> None:
        try:
            sender.send(event)
        except (BrokenPipeError, ConnectionResetError):
            os._exit(1)  # the parent process has ended; the checkpoint of this epoch is written

    # The pipe can be read when a request to stop has arrived, and when the parent process has ended.
    timer = EpochTimer(deadline, sender.poll)

    def report(kind: Literal["epoch", "auxiliary"], data: dict[str, Any]) -> None:
        timer.record(kind, data)
        send(Event(spec, kind, data))

    try:
        outcome = execute(spec, Store(uri), report, timer.stop)
        event = Event(spec, "stopped" if outcome == "stopped" else "finished")
    except (UserError, TrainingError) as error:
        # These messages say what to do, so no traceback is attached.
        data = {
            "store_unavailable": isinstance(error, StoreUnavailable),
            "code_changed": isinstance(error, CodeChanged),
        }
        event = Event(spec, "failed", {"reason": str(error), "traceback": "", **data})
    except Exception as error:
        event = Event(spec, "failed", {"reason": error_reason(error), "traceback": traceback.format_exc()})
    # Processes that load images inherit the blocked signals, so that the end of this process could not terminate them.
    for child in multiprocessing.active_children():
        child.kill()
    send(event)
