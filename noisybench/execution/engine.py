"""Protocols of execution: an executor starts runs in a pool, and the pool reports events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from noisybench.config.spec import RunSpec

if TYPE_CHECKING:
    from noisybench.execution.scheduler import Scheduler
    from noisybench.execution.time_limit import RunDeadline

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

    def start(self, spec: RunSpec, deadline: RunDeadline | None = None) -> Event:
        """Start a run, which stops by itself before its deadline, and return its ``start`` event."""
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
    executor: Executor,
    specs: Sequence[RunSpec],
    jobs: int,
    uri: str,
    stop_level: Callable[[], int],
    scheduler: Scheduler,
) -> Iterator[Event]:
    """Execute runs, at most ``jobs`` at the same time.

    Args:
        executor: executor of the runs.
        specs: runs in order.
        jobs: number of parallel runs.
        uri: tracking URI of the store.
        stop_level: polled continuously; 1 finishes the current epochs and starts no new runs, 2 kills all runs.
        scheduler: chooses the next run, and observes all events.

    Yields:
        Events; the last event of each started run is its outcome.
    """
    # In reverse, because `pop` takes the last element without moving the others.
    waiting, pool = list(specs)[::-1], executor.pool(uri)
    try:
        while waiting or len(pool):
            level = max(stop_level(), scheduler.stop_level())
            if level:
                waiting.clear()
                # Requested again in every iteration, which is harmless because a stop is a flag of the run.
                pool.stop()
            if level > 1:
                pool.kill()
            while len(pool) < jobs and (spec := scheduler.take_next(waiting)) is not None:
                event = pool.start(spec, scheduler.deadline(spec))
                scheduler.update(event)
                yield event
            for event in pool.events():
                scheduler.update(event)
                # Active runs keep their records locally, but new runs could not be tracked.
                if event.data.get("store_unavailable") or event.data.get("code_changed"):
                    waiting.clear()
                yield event
    finally:
        # Also reached when the caller stops iterating or raises: no run may outlive the command unobserved.
        pool.kill()
