"""Status line on the terminal, shown while a command is silent.

It is the first output of a command, before imports that take seconds on a busy machine, so this module imports nothing large.
"""

from __future__ import annotations

import functools
import io
import os
import sys
from typing import Any

ERASE_LINE = "\x1b[2K"
"""Escape sequence that erases the line of the cursor."""

_watched: list[Any] = []
"""Streams whose next output removes the line; empty while no line is shown."""


def show_status(text: str) -> None:
    """Show a line on a terminal until the next output; nothing if standard error is no terminal.

    Args:
        text: what the command is doing, such as ``Reading the store``.
    """
    line = f"{text} ..."
    if not _is_terminal(sys.stderr, len(line)):
        return
    clear_status()
    # The cursor returns to the start of the line, so that output which does not pass through Python replaces it as well.
    sys.stderr.write(f"{ERASE_LINE}{line}\r")
    sys.stderr.flush()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.write = functools.partial(_write_cleared, stream)  # type: ignore[method-assign]
            _watched.append(stream)


def clear_status() -> None:
    """Remove the line of `show_status`."""
    if not _watched:
        return
    for stream in _watched:
        del stream.write  # the method of the class again
    _watched.clear()
    sys.stderr.write(ERASE_LINE)
    sys.stderr.flush()


def _write_cleared(stream: io.TextIOWrapper, text: str) -> int:
    """Write to a stream after the removal of the line."""
    clear_status()
    return stream.write(text)


def _is_terminal(stream: Any, columns: int) -> bool:
    """Return whether a stream is a terminal with lines of more than a number of columns, and knows escape sequences."""
    if not isinstance(stream, io.TextIOWrapper) or not stream.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return False
    try:
        # A terminal that does not know its width reports 0.
        return (os.get_terminal_size(stream.fileno()).columns or columns + 1) > columns
    except OSError:
        return False
