"""Runs in processes of their own, a few at a time, on this machine.

Processes are forked from one server that has imported torch, Lightning and MLflow already, so that a run starts at
once, has its memory to itself, and takes no other run with it when it dies.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Literal, Protocol

from noisybench.errors import RunFailed, StoreAway, UserError
from noisybench.spec import RunSpec

Outcome = Literal["finished", "stopped", "failed"]


@dataclass
class Event:
    """What a run's process says: ``epoch`` with its row's metrics, ``auxiliary`` of pre-training, or how it ended."""

    spec: RunSpec
    kind: Literal["start", "epoch", "auxiliary"] | Outcome
    data: dict[str, Any] = field(default_factory=dict)


def context(threads: int) -> Any:
    """A multiprocessing context whose new processes have the heavy imports done."""
    # Read by the numeric libraries when they are imported in the server.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    chosen = multiprocessing.get_context("forkserver")
    chosen.set_forkserver_preload(["noisybench.preload"])
    return chosen


class Runs(Protocol):
    """Runs under way, each of which tells what happens to it."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def start(self, spec: RunSpec) -> Event:
        """Begin a run."""
        ...

    def stop(self, identity: str | None = None) -> None:
        """Have one run, or all, end after the epoch in flight."""
        ...

    def kill(self) -> None:
        """End all runs at once; their checkpoints stay."""
        ...

    def events(self, timeout: float = 0.2) -> Iterator[Event]:
        """What has happened, waiting a little for it; the last event of each run is its outcome."""
        ...


class Engine(Protocol):
    """What executes runs: this machine, or a cluster."""

    def capacity(self, specs: Sequence[RunSpec], gpu: bool) -> int:
        """How many such runs at a time."""
        ...

    def pool(self, uri: str) -> Runs:
        """An empty set of runs, which track themselves in the store of that address."""
        ...


class Local:
    """Processes on this machine, which share its cores or one GPU."""

    def __init__(self, threads: int) -> None:
        self.context = context(threads)

    def capacity(self, specs: Sequence[RunSpec], gpu: bool) -> int:
        """As many as cores allow at each run's threads; on a GPU, as its share of it allows."""
        if gpu:
            return max(1, int(1 / max((spec.gpus for spec in specs), default=1)))
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, cores // max((spec.cores for spec in specs), default=1))

    def pool(self, uri: str) -> Pool:
        """No processes yet."""
        return Pool(self.context, uri)


def preflight(ctx: Any, specs: Sequence[RunSpec], elsewhere: bool = False) -> dict[str, Any]:
    """Check runs completely, in a process of its own, before any is trained.

    Args:
        ctx: from `context`.
        specs: the runs.
        elsewhere: they are to be trained on other machines, so that this one needs no GPU.

    Returns:
        ``gpu``: whether the runs will use one.

    Raises:
        UserError: every problem of every run.
    """
    receiver, sender = ctx.Pipe(duplex=False)
    process = ctx.Process(target=_check, args=(sender, list(specs), elsewhere), daemon=True)
    process.start()
    sender.close()
    try:
        answer: dict[str, Any] = receiver.recv()
    except EOFError:
        process.join()
        raise UserError(f"checking the runs failed: the process ended with {_exit_reason(process.exitcode)}") from None
    process.join()
    if answer["problems"]:
        raise UserError(*answer["problems"])
    return answer


def _check(sender: Connection, specs: list[RunSpec], elsewhere: bool) -> None:
    import torch

    from noisybench.preparation import prepare

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    problems: dict[str, None] = {}
    cells: dict[str, Any] = {}
    for spec in specs:
        cell = repr((spec.dataset, spec.noise))
        try:
            known = cells.get(cell)
            checked = prepare(spec, *known) if known else prepare(spec)
            cells[cell] = (checked.dataset, checked.labels)
        except UserError as error:
            problems |= dict.fromkeys(error.problems)
        except Exception:
            problems[f"{spec.title}: checking it failed\n{traceback.format_exc()}"] = None
        cells = {cell: cells[cell]} if cell in cells else {}
    device = specs[0].execution.device if specs else "cpu"
    if device == "cuda" and not elsewhere and not torch.cuda.is_available():
        problems["execution.device: `cuda` was asked for, but torch sees no GPU here; see `noisybench doctor`"] = None
    sender.send(
        {
            "problems": list(problems),
            "gpu": device == "cuda" or (device == "auto" and torch.cuda.is_available()),
        }
    )


class Pool:
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


def run_all(
    engine: Engine, specs: Sequence[RunSpec], count: int, uri: str, interrupted: Callable[[], int]
) -> Iterator[Event]:
    """Run specifications, up to ``count`` at a time.

    Args:
        engine: what executes them.
        specs: what to run, in order.
        count: how many at a time.
        uri: of the store.
        interrupted: asked often; 1 lets the epochs in flight end and starts nothing new, 2 kills.

    Yields:
        What happens; the last event of each started run is its outcome.
    """
    waiting, pool = list(specs)[::-1], engine.pool(uri)
    try:
        while waiting or len(pool):
            level = interrupted()
            if level:
                waiting.clear()
                pool.stop()
            if level > 1:
                pool.kill()
            while waiting and len(pool) < count:
                yield pool.start(waiting.pop())
            for event in pool.events():
                if event.data.get("away"):
                    waiting.clear()  # runs under way keep their records here; those to come could not even begin
                yield event
    finally:
        pool.kill()


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
    from noisybench.runner import execute
    from noisybench.tracking import Store

    def send(event: Event) -> None:
        try:
            sender.send(event)
        except (BrokenPipeError, ConnectionResetError):
            os._exit(1)  # nobody listens any more; the checkpoint of this epoch is written

    try:
        outcome = execute(spec, Store(uri), lambda kind, data: send(Event(spec, kind, data)), stop.is_set)
        event = Event(spec, "stopped" if outcome == "stopped" else "finished")
    except (UserError, RunFailed) as error:
        told = {"reason": str(error), "traceback": "", "away": isinstance(error, StoreAway)}
        event = Event(spec, "failed", told)
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        event = Event(spec, "failed", {"reason": reason, "traceback": traceback.format_exc()})
    send(event)
