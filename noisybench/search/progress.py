"""Progress of a search: how many of its trials are done, and how long the others will take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from noisybench.execution.engine import Event


class TrialProgress:
    """Counts trials, of which each may be several runs, and estimates the remaining time.

    Args:
        total: number of trials of the study.
        done: number of trials that were done before.
        clock: clock in seconds.

    Example:
        >>> progress = TrialProgress(10, done=4, clock=iter([0.0, 30.0]).__next__)
        >>> progress.done = 5  # one trial in 30 seconds
        >>> progress.seconds_left()
        150.0
    """

    def __init__(self, total: int, done: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.done = total, done
        self._done_before, self._clock, self._start = done, clock, clock()
        self._fractions: dict[str, float] = {}  # of the epochs of each active run

    def update(self, event: Event, outcome: str, done: int, seeds: int) -> Event:
        """Return an event with what the display needs: the outcome for the trial, and the number of trials that are done.

        Args:
            event: event of a run.
            outcome: ``finished``, ``pruned``, ``failed`` or ``stopped`` at the end of a trial; ``seed`` after another of its
                seeds; the kind of the event while the run is active.
            done: number of trials that are done, whichever process trained them.
            seeds: number of seeds of a trial.
        """
        self.done = done
        if event.kind == "epoch":
            self._fractions[event.spec.identity] = (event.data["epoch"] + 1) / event.data["epochs"] / seeds
        elif event.kind not in ("start", "auxiliary"):
            self._fractions.pop(event.spec.identity, None)
        return replace(event, data={**event.data, "outcome": outcome, "done": done})

    def seconds_left(self) -> float | None:
        """Return the estimated seconds until all trials are done; None before the first epoch."""
        active = sum(self._fractions.values())
        trained = self.done - self._done_before + active
        if not trained:
            return None
        return max(0.0, self.total - self.done - active) * (self._clock() - self._start) / trained
