"""Files that commands and functions write for the user, which are written completely or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from noisybench.errors import UserError
from noisybench.utils.files import replacing, wrap_write_errors
from noisybench.utils.places import check_output_file, shown

SQLITE = b"SQLite format 3\0"
"""First bytes of the databases of stores and studies."""


@contextlib.contextmanager
def output_file(path: Path) -> Iterator[Path]:
    """Yield the file to write in place of ``path``, which keeps its old content until the block has ended without an error.

    Devices such as ``/dev/stdout`` are written directly, and so is a file in a folder that cannot be written.

    Raises:
        UserError: it cannot be written, or is a database, which no output replaces.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "labels.csv"
        >>> _ = path.write_text("old")
        >>> with output_file(path) as file:
        ...     _ = file.write_text("half of the new")
        ...     raise OSError(28, "No space left on device")
        Traceback (most recent call last):
        noisybench.errors.UserError: ...labels.csv cannot be written: No space left on device
        >>> path.read_text(), len(list(path.parent.iterdir()))
        ('old', 1)
    """
    # Behind a link, the file is replaced and the link stays.
    target = Path(os.path.realpath(path))
    # Names in /dev and /proc may stand for files that a shell has opened.
    is_opened = path.parts[:2] in (("/", "dev"), ("/", "proc"))
    exists = target.exists()
    with wrap_write_errors(path):
        if target.is_file() and _is_database(target):
            raise UserError(f"{shown(path)} is a database, such as the store of the runs; choose another name")
        if is_opened or (exists and not (target.is_file() and os.access(target.parent, os.W_OK))):
            yield path
            return
        with replacing(target) as partial:
            yield partial
            if exists:
                shutil.copymode(target, partial)


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(SQLITE)) == SQLITE


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, and create its folder; after an error, the file has its old content.

    Raises:
        UserError: it cannot be written.

    Example:
        >>> write_text(Path("/dev"), "text")
        Traceback (most recent call last):
        noisybench.errors.UserError: /dev cannot be written: it is a folder
    """
    check_output_file(path)
    with output_file(path) as file:
        file.write_text(text, encoding="utf-8")
