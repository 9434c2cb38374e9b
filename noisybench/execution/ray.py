"""Runs on a Ray cluster (optional: `pip install ray`), under the same rules as in processes of this machine.

A Ray worker does not train itself: it forks each run from a server of its own, as `workers.Pool` does here, so that a run has
its memory to itself and gives the same bits, and the heavy imports are paid once by each worker.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from noisybench.config.spec import RunSpec
from noisybench.errors import UserError
from noisybench.execution.engine import Event
from noisybench.execution.local import LocalPool
from noisybench.utils.processes import process_context

CONNECT_SECONDS, EXCHANGE_SECONDS = 5, 1.0
GO_ON, END_EPOCH, END_NOW = range(3)


@contextlib.contextmanager
def connected(address: str, embedded_store: bool) -> Iterator[Ray]:
    """The engine of a running cluster, while inside.

    Args:
        address: ``auto``, or HOST:PORT of its head.
        embedded_store: the store is a file, which machines cannot share.

    Raises:
        UserError: Ray is not installed, there is no such cluster, or it has several machines and the store is a file.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default
    try:
        import ray
    except ImportError:
        raise UserError("--ray: Ray is not installed; pip install 'noisybench[ray]'") from None
    if address != "auto":
        _reach(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise UserError(
            f"--ray {address}: there is no cluster ({reason}); start one by `ray start --head`, or give the HOST:PORT that it "
            "has printed"
        ) from None
    try:
        machines = [each for each in ray.nodes() if each["Alive"]]
        if len(machines) > 1 and embedded_store:
            raise UserError(
                f"--ray {address}: the cluster has {len(machines)} machines, which cannot share the store's file; start a "
                "tracking server and name it by MLFLOW_TRACKING_URI (see docs/scaling-up.md)"
            )
        yield Ray([each["Resources"] for each in machines])
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Find out at once whether anybody listens; Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdecimal()) or "://" in address:
        raise UserError(f"--ray: expected `auto` or HOST:PORT of the cluster's head, but got `{address}`")
    try:
        with socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS):
            return
    except OSError as error:
        raise UserError(
            f"--ray {address}: nobody listens there ({error.strerror or error}); start a cluster by `ray start --head`, or "
            "give the HOST:PORT that it has printed"
        ) from None


class Ray:
    """A cluster whose cores and GPUs runs share, each as its `num_cores` and `gpus` say.

    Args:
        machines: resources of each.
    """

    def __init__(self, machines: Sequence[dict[str, float]]) -> None:
        self._machines = machines

    def capacity(self, specs: Sequence[RunSpec], gpu: bool) -> int:
        """As many as fit on the machines.

        Raises:
            UserError: one run fits on none of them.
        """
        cores = max(spec.num_cores for spec in specs)
        gpus = max(spec.num_gpus for spec in specs) if self._needs_gpu(specs[0]) else 0
        fitting = sum(
            int(min(each.get("CPU", 0) / cores, each.get("GPU", 0) / gpus if gpus else math.inf))
            for each in self._machines
        )
        if not fitting:
            also = f" and {gpus:g} GPUs" if gpus else ""
            raise UserError(f"execution: a run needs {cores} cores{also}, but no machine of the cluster has them")
        return fitting

    def _needs_gpu(self, spec: RunSpec) -> bool:
        has = any(each.get("GPU", 0) for each in self._machines)
        return spec.execution.device == "cuda" or (spec.execution.device == "auto" and has)

    def pool(self, uri: str) -> RayPool:
        """No runs yet."""
        return RayPool(uri, self._needs_gpu)


class RayPool:
    """Runs on the cluster, each a task that tells a mailbox what happens."""

    def __init__(self, uri: str, needs_gpu: Any) -> None:
        import ray

        self._ray, self._uri, self._needs_gpu = ray, uri, needs_gpu
        self._mailbox = ray.remote(_Mailbox).options(num_cpus=0).remote()
        self._serve = ray.remote(_serve)
        self._running: dict[Any, RunSpec] = {}

    def __len__(self) -> int:
        """How many run, or wait for a place."""
        return len(self._running)

    def start(self, spec: RunSpec) -> Event:
        """Begin a run wherever there is room."""
        gpus = spec.num_gpus if self._needs_gpu(spec) else 0
        task = self._serve.options(num_cpus=spec.num_cores, num_gpus=gpus, max_retries=0, scheduling_strategy="SPREAD")
        own = {name: value for name, value in os.environ.items() if name.startswith(("NOISYBENCH_", "MLFLOW_"))}
        self._running[task.remote(spec, self._uri, os.getcwd(), own, self._mailbox)] = spec
        return Event(spec, "start")

    def stop(self, identity: str | None = None) -> None:
        """Have one run, or all, end after the epoch in flight."""
        self._wish(END_EPOCH, identity)

    def kill(self) -> None:
        """End all runs at once; their checkpoints stay."""
        self._wish(END_NOW, None)

    def _wish(self, level: int, identity: str | None) -> None:
        wanted = {each.identity: level for each in self._running.values() if identity in (None, each.identity)}
        if wanted:
            self._ray.get(self._mailbox.wish.remote(wanted))

    def events(self, timeout: float = EXCHANGE_SECONDS) -> Iterator[Event]:
        """What has happened, waiting until a run ends, but not for long; the last event of each run is its outcome."""
        done, _ = self._ray.wait(list(self._running), timeout=timeout) if self._running else ([], [])
        yield from self._ray.get(self._mailbox.take.remote())
        for reference in done:
            spec = self._running.pop(reference)
            try:
                event: Event = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[0][:200]
                told = f"its Ray worker died ({reason}); the same command goes on from its last epoch"
                event = Event(spec, "failed", {"reason": told, "traceback": "", "died": True})
            yield event


class _Mailbox:
    """Events on their way to the command, and its wishes on their way to the runs."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._wishes: dict[str, int] = {}

    def exchange(self, identity: str, events: list[Event]) -> int:
        """Take events of a run. Returns what is wished of it."""
        self._events += events
        return self._wishes.get(identity, GO_ON)

    def take(self) -> list[Event]:
        """Events that nobody has seen yet."""
        events, self._events = self._events, []
        return events

    def wish(self, wanted: dict[str, int]) -> None:
        """Note how runs are to end, by identity."""
        self._wishes |= {identity: max(level, self._wishes.get(identity, 0)) for identity, level in wanted.items()}


def _serve(spec: RunSpec, uri: str, folder: str, environment: dict[str, str], mailbox: Any) -> Event:
    """Body of a Ray task: train one run in a process of its own. Returns its outcome."""
    import ray

    if not Path(folder).is_dir():
        reason = f"the machine {socket.gethostname()} has no folder {folder}; work in one that all machines share"
        return Event(spec, "failed", {"reason": reason, "traceback": ""})
    os.chdir(folder)
    visible = {name: os.environ[name] for name in ("CUDA_VISIBLE_DEVICES",) if name in os.environ}
    pool = LocalPool(process_context(spec.execution.num_threads), uri, {**environment, **visible})
    pool.start(spec)
    events: list[Event] = []
    while True:
        # Messages cost the cores that train, so that they go together.
        last = time.monotonic()
        while len(pool) and time.monotonic() - last < EXCHANGE_SECONDS:
            events += pool.events()
        wish = ray.get(mailbox.exchange.remote(spec.identity, events if len(pool) else events[:-1]))
        if not len(pool):
            return events[-1]
        events = []
        if wish >= END_EPOCH:
            pool.stop()
        if wish == END_NOW:
            pool.kill()
