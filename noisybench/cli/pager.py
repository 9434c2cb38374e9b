"""Long output of a command through the user's pager."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

DEFAULT_PAGER = "less"
"""Pager if the environment variable `PAGER` is not set."""

LESS_OPTIONS = "FRSX"
"""Options of `less` if `LESS` is not set: end at once if all fits, show colors, cut long lines, leave text on the screen."""


FAILURES = (1, 126, 127)
"""Exit statuses of a pager that could not show the text, such as for an unknown option; Ctrl-C and quitting give others."""


def print_paged(console: Console, renderable: RenderableType, enabled: bool = True) -> None:
    """Print output, through a pager if it is longer than the terminal.

    Args:
        console: console of the output; if it is no terminal, everything is printed at once.
        renderable: what to print.
        enabled: False prints everything at once.
    """
    command = pager_command() if enabled and console.is_terminal else []
    if not command:
        console.print(renderable, crop=False)
        return
    with console.capture() as capture:
        console.print(renderable, crop=False)
    text = capture.get()
    if text.count("\n") < console.height or not _page(command, text):
        console.file.write(text)
        console.file.flush()


def pager_command() -> list[str]:
    """Return the command of the user's pager; empty if there is none, or if `PAGER` is empty or ``cat``."""
    try:
        command = shlex.split(os.environ.get("PAGER", DEFAULT_PAGER))
    except ValueError:  # quotes are not closed
        return []
    if not command or command[0] == "cat" or shutil.which(command[0]) is None:
        return []
    return command


def _page(command: list[str], text: str) -> bool:
    """Show text in a pager and wait for its end; False if it could not be started or failed."""
    environment = {**os.environ, "LESS": os.environ.get("LESS", LESS_OPTIONS)}
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
    except OSError:
        return False
    # Ctrl-C belongs to the pager, which uses it to interrupt a search in the text.
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with suppress(BrokenPipeError):  # the user has left the pager before the end
            process.communicate(text.encode("utf-8", "replace"))
        process.wait()
    finally:
        signal.signal(signal.SIGINT, previous)
    return process.returncode not in FAILURES
