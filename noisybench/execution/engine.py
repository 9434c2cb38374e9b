"""Engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from noisybench.config.spec import RunSpec

Outcome = Literal["finished", "stopped", "failed"]


@dataclass
class Event:
    """What a run's process says: ``epoch`` with its row's metrics, ``auxiliary`` of pre-training, or how it ended."""

    spec: RunSpec
    kind: Literal["start", "epoch", "auxiliary"] | Outcome
    data: dict[str, Any] = field(default_factory=dict)


class RunPool(Protocol):
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


class Executor(Protocol):
    """What executes runs: this machine, or a cluster."""

    def capacity(self, specs: Sequence[RunSpec], gpu: bool) -> int:
        """How many such runs at a time."""
        ...

    def pool(self, uri: str) -> RunPool:
        """An empty set of runs, which track themselves in the store of that address."""
        ...


def run_all(
    engine: Executor, specs: Sequence[RunSpec], count: int, uri: str, interrupted: Callable[[], int]
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
