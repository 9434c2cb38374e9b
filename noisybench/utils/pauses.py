"""Pauses between repetitions of a task that may take a bounded share of the time."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator


class Pause:
    """Time between two repetitions of a task that may take a share of the total time.

    Args:
        share: largest share of the time that the task may take, in (0, 1).

    Example:
        >>> pause = Pause(0.5)
        >>> pause.is_over()  # the cost of the first repetition is unknown
        True
        >>> with pause.measured():
        ...     time.sleep(0.01)
        >>> pause.is_over()
        False
    """

    def __init__(self, share: float) -> None:
        self._share, self._end = share, -math.inf

    def is_over(self) -> bool:
        """Return whether the task may be repeated."""
        return time.monotonic() >= self._end

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        """Measure a repetition, which decides the next pause."""
        start = time.monotonic()
        yield
        end = time.monotonic()
        self._end = end + (end - start) * (1 / self._share - 1)
