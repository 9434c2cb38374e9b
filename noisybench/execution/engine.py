"""Protocols of execution: an executor starts runs in a pool, and the pool reports events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from noisybench.config.spec import RunSpec

Outcome = Literal["finished", "stopped", "failed"]


@dataclass
class Event:
    """Event of a run.

    Attributes:
        spec: the run.
        kind: ``start``, ``epoch``, ``auxiliary`` (an epoch of an auxiliary run), or the outcome of the run.
        data: metrics of an epoch; for a failed run ``reason``, ``traceback``, and optionally ``killed`` (its process was
            killed), ``store_unavailable`` or ``code_changed``.
    """

    spec: RunSpec
    kind: Literal["start", "epoch", "auxiliary"] | Outcome
    data: dict[str, Any] = field(default_factory=dict)


class RunPool(Protocol):
    """Active runs."""

    def __len__(self) -> int:
        """Return the number of active runs."""
        ...

    def start(self, spec: RunSpec) -> Event:
        """Start a run and return its ``start`` event."""
        ...

    def stop(self, identity: str | None = None) -> None:
        """Ask one run, or all, to stop after the current epoch."""
        ...

    def kill(self) -> None:
        """Kill all runs; their checkpoints are kept."""
        ...

    def events(self, timeout: float = 0.2) -> Iterator[Event]:
        """Wait briefly for events and yield them; the last event of each run is its outcome."""
        ...


class Executor(Protocol):
    """Executor of runs: this machine, or a cluster."""

    def capacity(self, specs: Sequence[RunSpec], gpu: bool) -> int:
        """Return how many of these runs fit at the same time.

        Args:
            specs: runs.
            gpu: True if the runs use a GPU of this machine.
        """
        ...

    def pool(self, uri: str) -> RunPool:
        """Return an empty pool whose runs are tracked in the store at ``uri``."""
        ...


def run_all(
    executor: Executor, specs: Sequence[RunSpec], jobs: int, uri: str, stop_level: Callable[[], int]
) -> Iterator[Event]:
    """Execute runs, at most ``jobs`` at the same time.

    Args:
        executor: executor of the runs.
        specs: runs in order.
        jobs: number of parallel runs.
        uri: tracking URI of the store.
        stop_level: polled continuously; 1 finishes the current epochs and starts no new runs, 2 kills all runs.

    Yields:
        Events; the last event of each started run is its outcome.
    """
    # In reverse, because `pop` takes the last element without moving the others.
    waiting, pool = list(specs)[::-1], executor.pool(uri)
    try:
        while waiting or len(pool):
            level = stop_level()
            if level:
                waiting.clear()
                # Requested again in every iteration, which is harmless because a stop is a flag of the run.
                pool.stop()
            if level > 1:
                pool.kill()
            while waiting and len(pool) < jobs:
                yield pool.start(waiting.pop())
            for event in pool.events():
                # Active runs keep their records locally, but new runs could not be tracked.
                if event.data.get("store_unavailable") or event.data.get("code_changed"):
                    waiting.clear()
                yield event
    finally:
        # Also reached when the caller stops iterating or raises: no run may outlive the command unobserved.
        pool.kill()
