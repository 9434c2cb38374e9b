"""Locks between processes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout


@contextlib.contextmanager
def exclusive(path: Path, cancelled: Callable[[], bool] | None = None, poll_interval: float = 0.2) -> Iterator[bool]:
    """Wait until no other process holds a lock file, then hold it until the block ends.

    The operating system releases the lock when its holder dies.

    Args:
        path: lock file; it and its folder are created.
        cancelled: called between attempts; the wait ends when it returns True.
        poll_interval: seconds between attempts.

    Yields:
        True while the lock is held; False if ``cancelled`` ended the wait.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, exclusive(Path(folder) / "lock") as held:
        ...     held
        True
    """
    lock = FileLock(path)
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(poll_interval=poll_interval, cancel_check=cancelled)
            break
        except FileNotFoundError:  # the previous holder removed the folder after `mkdir` above
            continue
        except Timeout:
            yield False
            return
    try:
        yield True
    finally:
        lock.release()
