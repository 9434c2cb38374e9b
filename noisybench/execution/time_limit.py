"""Time limit of a command: how long its runs may train, and when each of them stops.

The limit covers the whole command, from its start to its exit. Runs end earlier by a reserve, in which the command ranks
the runs and writes its page. Each run decides after every epoch whether its next one fits, because a request of the command
would arrive after the run has begun that epoch.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from noisybench.errors import UserError
from noisybench.utils.durations import MAX_DAYS, UNITS, parse_duration, write_duration
from noisybench.utils.interrupts import INTERRUPTS, OUT_OF_TIME_STATUS

RESERVE_SECONDS = 5.0
"""Least time that is kept for the end of the command. Two hundred runs are ranked and shown in about two seconds."""

START_SECONDS = 2.0
"""Time from the start of a run's process to its training, until a run of the command has been observed."""

FINISH_SECONDS = 2.0
"""Time from the last epoch of a run to its end, until a run of the command has been observed."""

STOP_SECONDS = 2.0
"""Time in which a stopped run writes its checkpoint and its process ends."""

VARIATION = 1.1
"""Ratio by which an epoch may take longer than the longest that is known."""

EXIT_SECONDS = 0.5
"""Time before the end of the limit at which a command that is late ends as it is."""

USER_ERROR = 2
"""Exit status of a command whose limit is too short."""

JOB_START_SECONDS = 60.0
"""Time after the start of a Slurm job in which a command counts as its first."""


@dataclass(frozen=True)
class RunDeadline:
    """Moment at which a run must have ended, and what is known about its epochs; sent to its process.

    Attributes:
        at: Unix time, which the machines of a cluster share.
        epochs: seconds of each epoch in finished runs of the same stack; empty if there are none.
        finish: seconds from the last epoch to the end of the run.
    """

    at: float
    epochs: tuple[float, ...] = ()
    finish: float = FINISH_SECONDS


class EpochTimer:
    """Stop a run after the last epoch that leaves too little time for the next one.

    Args:
        deadline: when the run must have ended; None for never.
        stop: further condition, polled first.
        clock: clock in seconds.

    Example:
        >>> now = 0.0
        >>> timer = EpochTimer(RunDeadline(time.time() + 10), lambda: False, lambda: now)
        >>> for now in (3.0, 6.0):
        ...     timer.record("epoch", {"epoch": 0, "epochs": 9})
        ...     timer.stop()
        False
        True
    """

    def __init__(
        self, deadline: RunDeadline | None, stop: Callable[[], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._deadline, self._stop, self._clock = deadline, stop, clock
        self._updated_at = clock()
        # Converted once: a system clock that is adjusted later does not move the deadline.
        self._end = self._updated_at + deadline.at - time.time() if deadline else 0.0
        self._needed, self._is_at_start = 0.0, True

    def record(self, kind: str, data: Mapping[str, Any]) -> None:
        """Record the end of an epoch of the run, or of an auxiliary run, and estimate the next one."""
        if self._deadline is None:
            return
        now = self._clock()
        seconds, self._updated_at = now - self._updated_at, now
        epoch, epochs = data["epoch"] + 1, data["epochs"]
        if kind == "epoch":
            expected = self._deadline.epochs[epoch : epoch + 1]
        else:
            # After its last epoch, the first epoch of the run follows.
            expected = self._deadline.epochs[:1] if epoch == epochs else ()
        # The first time includes the start of the run, which an epoch of finished runs does not. Later, an epoch may take
        # longer than those before, such as the first one after a warm-up; finished runs show that.
        known = expected if self._is_at_start and expected else (seconds, *expected)
        self._needed, self._is_at_start = VARIATION * max(known), False
        if kind == "epoch" and epoch >= epochs:
            self._needed = 0.0
        if kind == "epoch" and epoch + 1 >= epochs:
            self._needed += self._deadline.finish

    def stop(self) -> bool:
        """Return True if the run must stop now."""
        if self._stop():
            return True
        return self._deadline is not None and self._clock() + self._needed + STOP_SECONDS > self._end


@dataclass
class TimeLimit:
    """Time limit of a command, and whether the command has come further in it.

    Attributes:
        name: what sets it, for messages: ``--time-limit 9m``, or the Slurm job.
        seconds: seconds from the start of the command.
        start: monotonic time of the start of the command.
        reserve: seconds at its end in which no run trains.
        is_repeatable: True if the same command will have as much time again.
        has_progressed: True once a run has finished, or has trained an epoch or one of an auxiliary run. The same command
            would stop for ever at the same place otherwise.
        is_reserve_set: True once `set_reserve` was called.
        activity: what the command is doing, for the message of a command that is late.
    """

    name: str
    seconds: float
    start: float
    reserve: float = RESERVE_SECONDS
    is_repeatable: bool = True
    has_progressed: bool = False
    is_reserve_set: bool = False
    activity: str = "starting"

    @property
    def end(self) -> float:
        """Monotonic time at which the command has ended."""
        return self.start + self.seconds

    def left(self) -> float:
        """Return the seconds in which runs may still train."""
        return self.end - self.reserve - time.monotonic()

    def set_reserve(self) -> None:
        """Set the reserve for this machine, when the command has opened its store and validates; only the first call counts.

        Where the start was slow, because the machine is busy or its disk is slow, the end will be as well.
        """
        self.activity = "validating its runs"
        if not self.is_reserve_set:
            self.reserve, self.is_reserve_set = max(RESERVE_SECONDS, self.elapsed() / 2), True

    def elapsed(self) -> float:
        """Return the seconds since the start of the command."""
        return time.monotonic() - self.start

    def too_short(self, reason: str, needed: float) -> UserError:
        """Return the error of a command that could not come further; the same command would not either.

        Args:
            reason: what has taken the time.
            needed: seconds of a limit that would do.
        """
        return UserError(
            f"{self.name} is too short: {reason}. Nothing is lost; a limit of {write_duration(needed)} would do"
        )

    @contextlib.contextmanager
    def enforced(self) -> Iterator[None]:
        """End the process at the end of the limit, should the block take longer; every file survives that."""

        def describe() -> str:
            if status() == USER_ERROR:
                reason = f"it ended while the command was {self.activity}, before a run had trained an epoch"
                return f"error: {self.too_short(reason, 2 * self.seconds)}"
            return (
                f"Out of time: {self.name} ended while the command was {self.activity}. Run the same command to resume."
            )

        def status() -> int:
            return OUT_OF_TIME_STATUS if self.has_progressed or not self.is_repeatable else USER_ERROR

        with INTERRUPTS.ending_at(self.end - EXIT_SECONDS, describe, status):
            yield

    def deadline(self, epochs: Sequence[float], finish: float) -> RunDeadline:
        """Return the deadline of a run that starts now."""
        return RunDeadline(time.time() + self.left(), tuple(epochs), finish)


def read_time_limit(
    option: str | None, environment: Mapping[str, str] = os.environ, name: str = "--time-limit"
) -> TimeLimit | None:
    """Return the time limit of this command; None if it has none.

    Args:
        option: value of ``--time-limit``: a duration, ``none``, or None for the end of the Slurm job, if there is one.
        environment: environment variables; Slurm sets ``SLURM_JOB_END_TIME`` and ``SLURM_JOB_START_TIME``.
        name: name of the option in messages.

    Raises:
        UserError: the value is no duration, or the command has been running for longer.

    Example:
        >>> read_time_limit("9m", {}).seconds
        540.0
        >>> read_time_limit(None, {}) is None, read_time_limit("none", {"SLURM_JOB_END_TIME": "1"}) is None
        (True, True)
    """
    start = INTERRUPTS.start_time()
    if option is None:
        return _slurm_limit(start, environment)
    if option.strip().lower() == "none":
        return None
    try:
        seconds = parse_duration(option)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None
    limit = TimeLimit(f"{name} {option.strip()}", seconds, start)
    if seconds <= 2 * RESERVE_SECONDS:
        raise limit.too_short(f"the start and end of a command take {2 * RESERVE_SECONDS:g} seconds", 60)
    return limit


def _slurm_limit(start: float, environment: Mapping[str, str]) -> TimeLimit | None:
    """Return the time until the Slurm job of this process ends; None outside a job, or in one without an end."""
    end, begin = (_unix_time(environment.get(name, "")) for name in ("SLURM_JOB_END_TIME", "SLURM_JOB_START_TIME"))
    if end is None:
        return None
    started_at = time.time() - (time.monotonic() - start)
    seconds = end - started_at
    # A job that was extended after its start keeps the variable of its first end.
    if not 0 < seconds <= MAX_DAYS * UNITS["d"]:
        return None
    is_first = begin is not None and started_at - begin < JOB_START_SECONDS
    return TimeLimit("the time of the Slurm job", seconds, start, is_repeatable=is_first)


def _unix_time(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 15 else None
