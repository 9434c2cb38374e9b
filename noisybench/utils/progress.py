"""Progress of long steps, for whichever command shows it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import TypeVar

ProgressListener = Callable[[str, int, int], None]
"""Function that receives a step, the number of finished parts and their total number."""

Item = TypeVar("Item")

_listener: ContextVar[ProgressListener | None] = ContextVar("progress listener", default=None)


@contextlib.contextmanager
def listening(listener: ProgressListener) -> Iterator[None]:
    """Send the progress of all steps inside of the block to a function.

    Example:
        >>> with listening(lambda step, done, total: print(f"{step}: {done} of {total}")):
        ...     report_progress("decode images", 3, 8)
        decode images: 3 of 8
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def report_progress(step: str, done: int, total: int) -> None:
    """Report the progress of a step; without a listener, nothing happens.

    Args:
        step: what is done, such as ``decode images``.
        done: number of finished parts.
        total: number of all parts.
    """
    listener = _listener.get()
    if listener is not None:
        listener(step, done, total)


def with_progress(items: Iterable[Item], step: str, total: int) -> Iterator[Item]:
    """Yield items, and report each when the next one is asked for.

    Args:
        items: what is processed, one after the other.
        step: what is done, such as ``decode images``.
        total: number of items.

    Example:
        >>> with listening(lambda step, done, total: print(f"{step}: {done} of {total}")):
        ...     list(with_progress("ab", "check runs", 2))
        check runs: 0 of 2
        check runs: 1 of 2
        check runs: 2 of 2
        ['a', 'b']
    """
    report_progress(step, 0, total)
    for done, item in enumerate(items, 1):
        yield item
        report_progress(step, done, total)
