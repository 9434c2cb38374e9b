"""Runs in processes of their own, a few at a time, on this machine.

Processes are forked from one server that has imported torch, Lightning and MLflow already, so that a run starts at
once, has its memory to itself, and takes no other run with it when it dies.
"""

from __future__ import annotations

import contextlib
import os
import signal
import traceback
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from noisybench.config.spec import RunSpec
from noisybench.errors import StoreUnavailable, TrainingError, UserError
from noisybench.execution.engine import Event
from noisybench.utils.processes import process_context, usable_cores


class LocalExecutor:
    """Processes on this machine, which share its cores or one GPU."""

    def __init__(self, threads: int) -> None:
        self.context = process_context(threads)

    def capacity(self, specs: Sequence[RunSpec], gpu: bool) -> int:
        """As many as cores allow at each run's threads; on a GPU, as its share of it allows."""
        if gpu:
            return max(1, int(1 / max((spec.num_gpus for spec in specs), default=1)))
        return max(1, usable_cores() // max((spec.num_cores for spec in specs), default=1))

    def pool(self, uri: str) -> LocalPool:
        """No processes yet."""
        return LocalPool(self.context, uri)


class LocalPool:
    """Runs in processes of their own, each of which tells what happens to it.

    Args:
        ctx: from `context`.
        uri: of the store.
        environment: variables for the processes, such as the GPU that they may see.
    """

    def __init__(self, ctx: Any, uri: str, environment: Mapping[str, str] | None = None) -> None:
        self._ctx, self._uri, self._environment = ctx, uri, dict(environment or {})
        self._running: dict[Connection, tuple[RunSpec, Any, Any]] = {}
        self._killed: set[str] = set()

    def __len__(self) -> int:
        """How many run."""
        return len(self._running)

    def start(self, spec: RunSpec) -> Event:
        """Begin a run."""
        receiver, sender = self._ctx.Pipe(duplex=False)
        stop = self._ctx.Event()
        process = self._ctx.Process(
            target=_run,
            args=(sender, spec, self._uri, stop, os.getcwd(), self._environment),
            daemon=spec.budget.devices == 1,  # a daemon may have no processes of its own
        )
        process.start()
        sender.close()
        self._running[receiver] = (spec, process, stop)
        return Event(spec, "start")

    def stop(self, identity: str | None = None) -> None:
        """Have one run, or all, end after the epoch in flight."""
        for spec, _, stop in self._running.values():
            if identity in (None, spec.identity):
                stop.set()

    def kill(self) -> None:
        """End all runs at once; their checkpoints stay."""
        for spec, process, _ in self._running.values():
            self._killed.add(spec.identity)
            process.kill()

    def events(self, timeout: float = 0.2) -> Iterator[Event]:
        """What has happened, waiting a little for it; the last event of each run is its outcome."""
        for ready in wait(list(self._running), timeout=timeout):
            assert isinstance(ready, Connection)
            spec, process, _ = self._running[ready]
            try:
                event: Event = ready.recv()
            except (EOFError, ConnectionResetError):
                process.join()
                event = _death(spec, process.exitcode, spec.identity in self._killed)
            yield event
            if event.kind in ("finished", "stopped", "failed"):
                process.join()
                ready.close()
                del self._running[ready]


def _death(spec: RunSpec, code: int | None, killed_by_us: bool) -> Event:
    if killed_by_us:
        return Event(spec, "stopped")
    reason = f"its process ended with {_exit_reason(code)}; the same command goes on from its last epoch"
    return Event(spec, "failed", {"reason": reason, "traceback": "", "died": True})


def _exit_reason(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-code).name
            return f"signal {name}" + (" (killed, perhaps for lack of memory)" if name == "SIGKILL" else "")
    return f"exit status {code}"


def _run(sender: Connection, spec: RunSpec, uri: str, stop: Any, folder: str, environment: Mapping[str, str]) -> None:
    """Body of a run's process."""
    os.chdir(folder)  # the server that it was forked from may have begun in another one
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    from noisybench.runs.runner import execute
    from noisybench.tracking.store import Store

    def send(event: Event) -> None:
        try:
            sender.send(event)
        except (BrokenPipeError, ConnectionResetError):
            os._exit(1)  # nobody listens any more; the checkpoint of this epoch is written

    try:
        outcome = execute(spec, Store(uri), lambda kind, data: send(Event(spec, kind, data)), stop.is_set)
        event = Event(spec, "stopped" if outcome == "stopped" else "finished")
    except (UserError, TrainingError) as error:
        told = {"reason": str(error), "traceback": "", "away": isinstance(error, StoreUnavailable)}
        event = Event(spec, "failed", told)
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        event = Event(spec, "failed", {"reason": reason, "traceback": traceback.format_exc()})
    send(event)
