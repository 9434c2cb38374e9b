"""Execute runs on a Ray cluster (optional: `pip install 'noisybench[ray]'`).

A Ray worker does not train itself: it starts each run in a process as on one machine, with a `LocalPool`. A run therefore
has its own memory and produces the same weights, and each worker imports the heavy libraries once.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from noisybench.config.spec import RunSpec
from noisybench.errors import UserError
from noisybench.execution.engine import Event
from noisybench.execution.local import LocalPool
from noisybench.execution.time_limit import RunDeadline
from noisybench.utils.interrupts import INTERRUPTS
from noisybench.utils.processes import process_context

CONNECT_TIMEOUT = 5
"""Seconds to wait for the head of a cluster."""

EXCHANGE_INTERVAL = 1.0
"""Seconds between exchanges of events."""

CONTINUE, STOP_AFTER_EPOCH, STOP_NOW = range(3)


@contextlib.contextmanager
def connect(address: str, embedded_store: bool) -> Iterator[RayExecutor]:
    """Connect to a running cluster while the block executes.

    Args:
        address: ``auto``, or HOST:PORT of the head.
        embedded_store: True if the tracking store is a file, which several machines cannot share.

    Yields:
        The executor of the cluster.

    Raises:
        UserError: Ray is not installed, the cluster cannot be reached, or it has several machines and the store is a file.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the future default of Ray
    try:
        import ray
    except ImportError:
        raise UserError("--ray: Ray is not installed; pip install 'noisybench[ray]'") from None
    if address != "auto":
        _check_reachable(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise UserError(
            f"--ray {address}: no cluster is available ({reason}); start one with `ray start --head`, or give the HOST:PORT "
            "that this command prints"
        ) from None
    INTERRUPTS.handle_signals()  # Ray has replaced the handler of SIGTERM
    try:
        machines = [node for node in ray.nodes() if node["Alive"]]
        if len(machines) > 1 and embedded_store:
            raise UserError(
                f"--ray {address}: the cluster has {len(machines)} machines, which cannot share an SQLite file; start a "
                "tracking server and set MLFLOW_TRACKING_URI to its address (see docs/scaling-up.md)"
            )
        yield RayExecutor([node["Resources"] for node in machines])
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Check the address of a cluster's head immediately; Ray itself would retry for minutes."""
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdecimal()) or "://" in address:
        raise UserError(f"--ray: expected `auto` or HOST:PORT of the cluster's head, but got `{address}`")
    try:
        with socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT):
            return
    except OSError as error:
        raise UserError(
            f"--ray {address}: cannot connect ({error.strerror or error}); start a cluster with `ray start --head`, or give "
            "the HOST:PORT that this command prints"
        ) from None


class RayExecutor:
    """Cluster whose cores and GPUs are shared by runs.

    Args:
        machines: resources of each machine, as Ray reports them.

    Example:
        >>> from noisybench.config.resolve import resolve
        >>> spec = resolve({"execution": {"num_threads": 2, "device": "cpu"}})
        >>> RayExecutor([{"CPU": 8.0}, {"CPU": 3.0}]).capacity([spec], gpu=False)
        5
    """

    def __init__(self, machines: Sequence[dict[str, float]]) -> None:
        self._machines = machines

    def capacity(self, specs: Sequence[RunSpec], gpu: bool) -> int:
        """Return how many runs fit on the machines at the same time.

        Raises:
            UserError: one run fits on none of the machines.
        """
        cores = max(spec.num_cores for spec in specs)
        gpus = max(spec.num_gpus for spec in specs) if self._needs_gpu(specs[0]) else 0
        count = sum(
            int(min(resources.get("CPU", 0) / cores, resources.get("GPU", 0) / gpus if gpus else math.inf))
            for resources in self._machines
        )
        if not count:
            gpu_text = f" and {gpus:g} GPUs" if gpus else ""
            raise UserError(f"execution: a run needs {cores} cores{gpu_text}, but no machine of the cluster has them")
        return count

    def _needs_gpu(self, spec: RunSpec) -> bool:
        has_gpu = any(resources.get("GPU", 0) for resources in self._machines)
        return spec.execution.device == "cuda" or (spec.execution.device == "auto" and has_gpu)

    def pool(self, uri: str) -> RayPool:
        """Return an empty pool whose runs are tracked in the store at ``uri``."""
        return RayPool(uri, self._needs_gpu)


class RayPool:
    """Runs on the cluster, each a Ray task that sends its events through a shared queue.

    Args:
        uri: tracking URI of the store.
        needs_gpu: returns True if a run needs a GPU.
    """

    def __init__(self, uri: str, needs_gpu: Callable[[RunSpec], bool]) -> None:
        import ray

        self._ray, self._uri, self._needs_gpu = ray, uri, needs_gpu
        # The queue only passes messages, so it must not reserve a core that a run could use.
        self._queue = ray.remote(_EventQueue).options(num_cpus=0).remote()
        self._execute = ray.remote(_serve)
        self._active: dict[Any, RunSpec] = {}

    def __len__(self) -> int:
        """Return the number of runs that are active or wait for resources."""
        return len(self._active)

    def start(self, spec: RunSpec, deadline: RunDeadline | None = None) -> Event:
        """Start a run on any machine with free resources and return its ``start`` event."""
        gpus = spec.num_gpus if self._needs_gpu(spec) else 0
        # Without `max_retries=0`, Ray would repeat the run of a dead worker instead of reporting it as failed.
        task = self._execute.options(
            num_cpus=spec.num_cores, num_gpus=gpus, max_retries=0, scheduling_strategy="SPREAD"
        )
        # Other variables, such as paths and the visible GPUs, are those of the machine that trains.
        environment = {k: v for k, v in os.environ.items() if k.startswith(("NOISYBENCH_", "MLFLOW_"))}
        self._active[task.remote(spec, self._uri, os.getcwd(), environment, self._queue, deadline)] = spec
        return Event(spec, "start")

    def stop(self, identity: str | None = None) -> None:
        """Ask one run, or all, to stop after the current epoch."""
        self._request_stop(STOP_AFTER_EPOCH, identity)

    def kill(self) -> None:
        """Kill all runs; their checkpoints are kept."""
        self._request_stop(STOP_NOW, None)

    def _request_stop(self, level: int, identity: str | None) -> None:
        levels = {spec.identity: level for spec in self._active.values() if identity in (None, spec.identity)}
        if levels:
            self._ray.get(self._queue.request_stop.remote(levels))

    def events(self, timeout: float = EXCHANGE_INTERVAL) -> Iterator[Event]:
        """Wait briefly for a run to end and yield all events; the last event of each run is its outcome."""
        done, _ = self._ray.wait(list(self._active), timeout=timeout) if self._active else ([], [])
        # Taken before the outcomes: a task adds all other events of its run to the queue before it ends.
        yield from self._ray.get(self._queue.take.remote())
        for reference in done:
            spec = self._active.pop(reference)
            try:
                event: Event = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                message = str(error).strip().splitlines()[0][:200]
                reason = f"its Ray worker died ({message}); rerun the same command to resume from the last epoch"
                event = Event(spec, "failed", {"reason": reason, "traceback": "", "killed": True})
            yield event


class _EventQueue:
    """Ray actor that passes events from runs to the command, and stop requests from the command to runs."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._stop_levels: dict[str, int] = {}

    def exchange(self, identity: str, events: list[Event]) -> int:
        """Add events of a run and return the stop level that is requested of it."""
        self._events += events
        return self._stop_levels.get(identity, CONTINUE)

    def take(self) -> list[Event]:
        """Remove and return all events."""
        events, self._events = self._events, []
        return events

    def request_stop(self, levels: dict[str, int]) -> None:
        """Request that runs stop, by identity; a request is never weakened."""
        self._stop_levels |= {
            identity: max(level, self._stop_levels.get(identity, CONTINUE)) for identity, level in levels.items()
        }


def _serve(
    spec: RunSpec, uri: str, folder: str, environment: dict[str, str], queue: Any, deadline: RunDeadline | None
) -> Event:
    """Train one run in a process of a Ray worker and return its outcome."""
    import ray

    if not Path(folder).is_dir():
        reason = f"the machine {socket.gethostname()} has no folder {folder}; use a folder that all machines share"
        return Event(spec, "failed", {"reason": reason, "traceback": ""})
    os.chdir(folder)
    # Ray sets the variable for each task, but a fork server keeps the environment in which it was started.
    visible_gpus = {name: os.environ[name] for name in ("CUDA_VISIBLE_DEVICES",) if name in os.environ}
    pool = LocalPool(process_context(), uri, {**environment, **visible_gpus})
    pool.start(spec, deadline)
    events: list[Event] = []
    while True:
        # Messages take time from the cores that train, so events are sent together.
        last_exchange = time.monotonic()
        while len(pool) and time.monotonic() - last_exchange < EXCHANGE_INTERVAL:
            events += pool.events()
        # The outcome is the result of the task and is left out here, so that it is reported exactly once.
        level = ray.get(queue.exchange.remote(spec.identity, events if len(pool) else events[:-1]))
        if not len(pool):
            return events[-1]
        events = []
        if level >= STOP_AFTER_EPOCH:
            pool.stop()
        if level == STOP_NOW:
            pool.kill()
