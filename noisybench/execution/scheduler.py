"""Decide which runs start under a time limit, from the epochs of recorded runs and of runs in progress."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, MutableSequence

from noisybench.config.spec import WORKSPACE, RunSpec
from noisybench.execution.durations import DurationEstimator
from noisybench.execution.engine import Event
from noisybench.execution.time_limit import (
    FINISH_SECONDS,
    START_SECONDS,
    STOP_SECONDS,
    VARIATION,
    RunDeadline,
    TimeLimit,
)


class Scheduler:
    """Choose the next run of a command, and observe its runs.

    Args:
        limit: time limit of the command; None for none.
        estimator: durations of recorded runs.
        clock: clock in seconds.

    Attributes:
        shortest: seconds to the next checkpoint, and title, of the run that needs least among those that did not fit.
    """

    def __init__(
        self, limit: TimeLimit | None, estimator: DurationEstimator, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit, self._estimator, self._clock = limit, estimator, clock
        self.shortest: tuple[float, str] | None = None
        self._first_start = 0.0
        if limit is not None:
            self._first_start, limit.activity = limit.elapsed(), "training its runs"
        self._titles: dict[str, None] = {}  # of the runs that have started
        self._updated_at: dict[str, float] = {}
        self._checkpoint_times: dict[str, int] = {}  # at the start of each run
        self._auxiliary_time = _auxiliary_time() if limit is not None else 0
        self._at_start: set[str] = set()  # runs without an event since their start
        self._first_seconds: dict[str, float] = {}  # from the start to the first epoch, by stack
        self._epoch_seconds: dict[str, float] = {}
        self._start_seconds, self._finish_seconds = START_SECONDS, FINISH_SECONDS

    def stop_level(self) -> int:
        """Return 2 if all runs must stop immediately because the time is over, else 0."""
        return 2 if self.limit is not None and self.limit.left() <= 0 else 0

    def take_next(self, waiting: MutableSequence[RunSpec]) -> RunSpec | None:
        """Remove and return the last of the waiting runs that reaches its next checkpoint in time.

        Runs before it that do not are removed as well: their time will be shorter still.

        Returns:
            None if there is none.
        """
        while waiting:
            spec = waiting.pop()
            if self.fits(spec):
                return spec
        return None

    def deadline(self, spec: RunSpec) -> RunDeadline | None:
        """Return the deadline of a run that starts now; None without a time limit."""
        if self.limit is None:
            return None
        return self.limit.deadline(self._estimator.epochs(spec), self._finish_seconds)

    def fits(self, spec: RunSpec) -> bool:
        """Return True if a run that starts now reaches its next checkpoint in time, or if its epochs are unknown."""
        if self.limit is None:
            return True
        seconds = self.seconds_to_checkpoint(spec)
        # An unknown run is tried: it stops at the end of an epoch, or loses what it has trained since its last checkpoint.
        if seconds is None:
            return self.limit.left() > self._start_seconds + STOP_SECONDS
        if self.limit.left() > seconds:
            return True
        if self.shortest is None or seconds < self.shortest[0]:
            self.shortest = (seconds, spec.title)
        return False

    def seconds_to_checkpoint(self, spec: RunSpec) -> float | None:
        """Return the estimated seconds until a run that starts now has its next checkpoint; None if it is unknown."""
        recorded, stack = self._estimator.epochs(spec), _stack(spec)
        observed = self._epoch_seconds.get(stack)
        if checkpoint_time(spec):
            # Only the run itself loads its checkpoint, which has the number of its epochs.
            epoch = max((*recorded, observed or 0.0), default=0.0)
        elif stack in self._first_seconds:
            return VARIATION * self._first_seconds[stack] + STOP_SECONDS
        else:
            epoch = recorded[0] if recorded else observed or 0.0
        return self._start_seconds + VARIATION * epoch + STOP_SECONDS if epoch else None

    def estimate(self, spec: RunSpec) -> float | None:
        """Return the estimated seconds of a complete run, from records or from the epochs of this command; None if unknown."""
        recorded, epoch = self._estimator.estimate(spec), self._epoch_seconds.get(_stack(spec))
        if recorded is not None or epoch is None:
            return recorded
        return self._start_seconds + epoch * spec.budget.epochs + self._finish_seconds

    def check_progress(self) -> None:
        """Refuse a limit in which no run has come further, so that the same command would never end.

        Raises:
            UserError: no run has trained an epoch, and the same command would have no more time.
        """
        limit = self.limit
        if limit is None or limit.has_progressed or not limit.is_repeatable:
            return
        training = limit.seconds - limit.reserve - self._first_start
        if self._titles:
            reason = f"in {training:.0f} s of it, no run has trained an epoch ({'; '.join(self._titles)})"
            raise limit.too_short(reason, 2 * limit.seconds)
        if self.shortest is None:
            reason = f"the command needs {self._first_start:.0f} s until its first run starts"
            raise limit.too_short(reason, 2 * (self._first_start + limit.reserve))
        seconds, title = self.shortest
        reason = (
            f"the shortest time of a pending run to its next checkpoint is {seconds:.0f} s ({title}), and the command itself "
            f"takes {self._first_start:.0f} s before it and up to {limit.reserve:.0f} s after it"
        )
        raise limit.too_short(reason, 1.2 * (seconds + self._first_start + limit.reserve))

    def update(self, event: Event) -> None:
        """Observe an event of a run."""
        spec, now = event.spec, self._clock()
        identity = spec.identity
        if event.kind == "start":
            self._updated_at[identity], self._checkpoint_times[identity] = now, checkpoint_time(spec)
            self._at_start.add(identity)
            self._titles[spec.title] = None
            return
        seconds, self._updated_at[identity] = now - self._updated_at[identity], now
        if event.kind == "epoch":
            self._update_epoch(spec, seconds)
        elif event.kind == "finished":
            self._finish_seconds = max(self._finish_seconds, seconds)
        self._at_start.discard(identity)
        if self.limit is not None and not self.limit.has_progressed:
            has_checkpoint = checkpoint_time(spec) > self._checkpoint_times[identity]
            has_auxiliary = event.kind != "epoch" and _auxiliary_time() > self._auxiliary_time
            self.limit.has_progressed = event.kind == "finished" or has_checkpoint or has_auxiliary

    def _update_epoch(self, spec: RunSpec, seconds: float) -> None:
        stack = _stack(spec)
        if spec.identity not in self._at_start:
            self._epoch_seconds[stack] = seconds
            if stack in self._first_seconds:
                self._start_seconds = max(0.0, self._first_seconds[stack] - seconds)
        elif self._checkpoint_times[spec.identity]:
            # A resumed run first reports the epoch of its checkpoint.
            self._start_seconds = seconds
        else:
            self._first_seconds[stack] = seconds


def checkpoint_time(spec: RunSpec) -> int:
    """Return when the checkpoint of an unfinished run was written, in nanoseconds; 0 if it has none."""
    try:
        return (spec.run_dir() / "checkpoint.ckpt").stat().st_mtime_ns
    except OSError:
        return 0


def _auxiliary_time() -> int:
    """Return when the latest file of an auxiliary run was written, in nanoseconds; 0 if there is none."""
    times = [0]
    for file in (WORKSPACE / "auxiliary").glob("*"):
        with contextlib.suppress(OSError):
            times.append(file.stat().st_mtime_ns if file.suffix in (".ckpt", ".pt") else 0)
    return max(times)


def _stack(spec: RunSpec) -> str:
    """Return what decides the time of an epoch; the parameters of a search's trials seldom do."""
    return repr((spec.dataset_label, spec.budget_hash, [member.name for member in spec.mitigations]))
