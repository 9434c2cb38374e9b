"""Upload the rows of a run to its tracking store while the run trains."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from types import TracebackType

    from noisybench.records.schema import EpochRow

logger = logging.getLogger("noisybench")

UPLOAD_INTERVAL = 5.0
"""Seconds for which rows are collected before one request uploads them."""


class RowStore(Protocol):
    """Store of a run's rows, such as `ActiveRun`."""

    def log_rows(self, rows: list[EpochRow]) -> None:
        """Log rows."""
        ...


class RowUploader:
    """Upload rows from a thread, those of several seconds in one request; use it as a context manager.

    Training never waits for the store. A process that is killed leaves the rows of the last seconds to its checkpoint,
    from which a resumed run uploads them. If the store fails once, training continues without further attempts, each of
    which could last until a timeout; all rows are uploaded at the end of the run.

    Args:
        run: where rows are logged.
        interval: seconds from the first row to the request that uploads it and all rows since.

    Example:
        >>> class Printed:
        ...     def log_rows(self, rows):
        ...         print(rows)
        >>> with RowUploader(Printed()) as upload:
        ...     upload(["first row"])
        ...     upload(["second row"])
        ['first row', 'second row']
    """

    def __init__(self, run: RowStore, interval: float = UPLOAD_INTERVAL) -> None:
        self._run, self._interval = run, interval
        self._waiting: list[EpochRow] = []
        self._is_closed = self._has_failed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="row uploader", daemon=True)

    def __enter__(self) -> RowUploader:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Upload the remaining rows and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def __call__(self, rows: list[EpochRow]) -> None:
        """Upload rows soon."""
        with self._changed:
            self._waiting += rows
            self._changed.notify()

    def discard(self) -> None:
        """Forget the remaining rows, because a finished run uploads its record with all of them."""
        with self._changed:
            self._waiting.clear()

    def _work(self) -> None:
        is_closed = False
        while not is_closed:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                self._changed.wait_for(lambda: self._is_closed, timeout=self._interval)
                rows, self._waiting, is_closed = self._waiting, [], self._is_closed
            if rows and not self._has_failed:
                self._upload(rows)

    def _upload(self, rows: list[EpochRow]) -> None:
        try:
            self._run.log_rows(rows)
        except Exception as error:
            self._has_failed = True
            logger.warning("rows cannot be uploaded now, and will be uploaded at the end: %s", error)
