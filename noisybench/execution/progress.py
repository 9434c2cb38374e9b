"""Progress of the runs of a command, and estimate of the remaining time."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Sequence

from noisybench.config.spec import RunSpec
from noisybench.execution.durations import DurationEstimator, Key
from noisybench.execution.engine import Event
from noisybench.execution.scheduler import checkpoint_time


class Progress:
    """Progress of runs and estimate of the remaining time.

    The estimate costs as much as there are different durations, and not as there are runs: it is made after every epoch.

    Args:
        pending: runs to execute.
        estimator: durations of recorded runs; finished runs are added.
        jobs: number of parallel runs.
    """

    def __init__(self, pending: Sequence[RunSpec], estimator: DurationEstimator, jobs: int) -> None:
        self._unfinished = Counter(estimator.key(spec) for spec in pending)  # runs by what decides their duration
        self._start_times: dict[str, float] = {}
        self._fractions: dict[str, float] = {}  # of the epochs, for each run that has been active
        self._active: dict[str, RunSpec] = {}
        self._resumed: set[str] = set()
        self._estimator, self._jobs = estimator, jobs

    def update(self, event: Event) -> None:
        """Update the progress with an event."""
        identity = event.spec.identity
        if event.kind == "start":
            self._start_times[identity], self._fractions[identity] = time.monotonic(), 0.0
            self._active[identity] = event.spec
            if checkpoint_time(event.spec):
                self._resumed.add(identity)
        elif event.kind == "epoch":
            self._fractions[identity] = (event.data["epoch"] + 1) / event.data["epochs"]
        elif event.kind != "auxiliary":
            # Runs that stop, fail or resume train a part of their epochs, and would shorten the estimate.
            if event.kind == "finished" and identity not in self._resumed:
                self._estimator.add(event.spec, time.monotonic() - self._start_times[identity])
            self._unfinished -= Counter([self._estimator.key(event.spec)])
            self._active.pop(identity, None)

    def fraction(self, spec: RunSpec) -> float:
        """Return the fraction of a run's epochs that is known to be trained."""
        return self._fractions.get(spec.identity, 0.0)

    def seconds_left(self) -> float | None:
        """Return the estimated seconds until all runs are finished; None while they cannot be estimated."""
        active_estimate = self._seconds_of_active_runs()
        # The parts of active runs that are trained take no more time.
        counts: dict[Key, float] = dict(self._unfinished)
        for identity, spec in self._active.items():
            counts[self._estimator.key(spec)] -= self._fractions[identity]
        total = 0.0
        for key, count in counts.items():
            seconds = self._estimator.estimate_roughly(key) or active_estimate
            if seconds is None:
                return None
            total += seconds * count
        # At the end, fewer runs than jobs are left to share the time.
        return total / min(self._jobs, max(1, self._unfinished.total()))

    def _seconds_of_active_runs(self) -> float | None:
        """Return the mean duration of a run, extrapolated from the active runs that have begun with their first epoch."""
        now = time.monotonic()
        seconds = [
            (now - self._start_times[identity]) / self._fractions[identity]
            for identity in self._active.keys() - self._resumed
            if self._fractions[identity] > 0
        ]
        return statistics.fmean(seconds) if seconds else None
