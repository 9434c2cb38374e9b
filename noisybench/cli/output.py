"""Standard output and error of the command line, on any console and disk."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from pathlib import Path

import typer

from noisybench.errors import UserError
from noisybench.utils.places import shown
from noisybench.utils.text import printable_lines

ASCII = {
    "–": "-", "—": "-", "−": "-", "…": "...", "·": "|", "±": "+-", "×": "x", "→": "->", "≤": "<=", "≥": ">=",
    "’": "'", "“": '"', "”": '"',
}  # fmt: skip
"""Replacements of typographic characters for consoles that cannot show them."""


SUFFIXES = {
    "csv": (".csv",), "json": (".json",), "markdown": (".md", ".markdown"), "latex": (".tex",), "html": (".html", ".htm"),
}  # fmt: skip
"""Ends of the names of files by format."""


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Return the replacement of characters that an encoding lacks, as an error handler of the codecs."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return "".join(ASCII.get(character, ascii(character)[1:-1]) for character in text), error.end


def prepare_streams() -> None:
    """Make standard output and error replace the characters that their encoding lacks, instead of raising errors.

    Example:
        >>> prepare_streams()
        >>> "95 ± 1 …".encode("ascii", errors="noisybench")
        b'95 +- 1 ...'
    """
    codecs.register_error("noisybench", _replace)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="noisybench")


def colored(text: str, color: str) -> str:
    """Return text in a color for a terminal; unchanged if the environment variable `NO_COLOR` is set or terminals are dumb.

    `typer.echo` removes the color where the output is no terminal.

    Args:
        text: the text.
        color: name of the color, such as ``red``.
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return typer.style(text, fg=color, bold=True)


def print_text(text: str) -> None:
    """Print text of several lines, such as tables with names from records, with control characters as escapes."""
    typer.echo(printable_lines(text), nl=False)


def check_format_of_name(path: Path, format: str) -> None:
    """Refuse a file whose name says that it has another format.

    Args:
        path: file to write.
        format: key of `SUFFIXES`.

    Raises:
        UserError: the name ends as those of another format do.

    Example:
        >>> check_format_of_name(Path("board.csv"), "csv")
        >>> check_format_of_name(Path("board.csv"), "html")
        Traceback (most recent call last):
        noisybench.errors.UserError: --output: board.csv would be html, but its name ends in .csv; choose a name in .html
    """
    suffix = path.suffix.lower()
    if any(suffix in suffixes for name, suffixes in SUFFIXES.items() if name != format):
        raise UserError(
            f"--output: {shown(path)} would be {format}, but its name ends in {suffix}; choose a name in {SUFFIXES[format][0]}"
        )


def discard_output() -> None:
    """Send what is still buffered nowhere, so that the interpreter's flush at exit does not fail again."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # a stream without a file descriptor
        sys.stdout = io.StringIO()


def environment_problem(error: Exception) -> str | None:
    """Return a message for a failure of the machine, such as a full disk; None for any other error.

    Example:
        >>> environment_problem(OSError(errno.ENOSPC, "No space left on device"))
        'the output cannot be written: No space left on device'
        >>> environment_problem(PermissionError(errno.EACCES, "Permission denied", "/data"))
        '/data: permission denied'
        >>> environment_problem(RuntimeError("Could not determine home directory."))
        'this user has no home folder; set HOME to a folder that you may write'
    """
    if isinstance(error, MemoryError):
        reason = str(error)
        return f"not enough memory{f' ({reason[0].lower()}{reason[1:]})' if reason else ''}; use less data or a smaller batch"
    # `Path.home` and its relatives in libraries, where neither HOME nor the list of users has a folder.
    if isinstance(error, RuntimeError) and "determine" in str(error) and "home directory" in str(error):
        return "this user has no home folder; set HOME to a folder that you may write"
    if not isinstance(error, OSError) or error.strerror is None:
        return None
    if isinstance(error.filename, (str, bytes)):
        return f"{shown(os.fsdecode(error.filename))}: {error.strerror.lower()}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF):
        return f"the output cannot be written: {error.strerror}"
    return None
