"""Consoles of Rich for the terminal, files and notebooks."""

from __future__ import annotations

import os
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from noisybench.utils.text import printable_lines

PLAIN_WIDTH = 170
"""Columns of the output if it is not a terminal and `COLUMNS` is not set, so that tables in files and logs are not cut."""


class SafeConsole(Console):
    """Console that shows control characters in names of files, classes and methods as escapes."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Yield the segments of an object; control sequences of Rich itself stay as they are."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable_lines(segment.text), segment.style)


def make_console(stderr: bool = False) -> Console:
    """Return a console with the width of the environment variable `COLUMNS` or the terminal; `PLAIN_WIDTH` for a file or pipe."""
    console = SafeConsole(stderr=stderr, highlight=False)
    columns = os.environ.get("COLUMNS", "")
    if not console.is_terminal and not (columns.isdecimal() and int(columns) > 0):
        console = SafeConsole(stderr=stderr, highlight=False, width=PLAIN_WIDTH)
    return console
