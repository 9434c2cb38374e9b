"""Files that the user names: checks of inputs before they are read, and of outputs before any work starts."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path

from noisybench.errors import UserError, show
from noisybench.utils.text import printable

SHOWN = 120
"""Largest number of characters of a path that a message repeats."""


def shown(path: Path | str) -> str:
    """Return a path for a message: without control characters, and shortened in the middle if it is very long.

    Example:
        >>> len(shown("a/" * 2500))
        120
    """
    text = printable(str(path))
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2 - 1]}…{text[-SHOWN // 2 :]}"


def path_text(value: object, location: str) -> str:
    """Return a path, or the address of a store, as text.

    Args:
        value: an argument of a function of the library.
        location: name of the argument for messages.

    Raises:
        UserError: it is neither text nor a path, or empty.

    Example:
        >>> path_text(Path("photos"), "folder")
        'photos'
        >>> path_text(None, "folder")
        Traceback (most recent call last):
        noisybench.errors.UserError: folder: must be text or a path, but got None
    """
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or not text:
        hint = f"; {location} is what its method save returns" if hasattr(value, "save") else ""
        raise UserError(f"{location}: must be text or a path, but got {show(value)}{hint}")
    return text


def expand_user(path: Path) -> Path:
    """Return a path in which ``~`` is replaced by the home folder; names such as ``~archive`` stay if there is no such user.

    Raises:
        UserError: the home folder is unknown.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        if path.parts[0] != "~" and os.path.lexists(path.parts[0]):  # a name in the working folder, as in shells
            return path
        raise UserError(f"{shown(path)}: the home folder of this user is unknown; write the path without ~") from None


def _mode(path: Path) -> int | str | None:
    """Return the file mode of a path, the reason why it cannot be inspected, or None if nothing is there."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return str(error.strerror).lower()
    except ValueError:  # a null character
        return "not a valid path"


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a device" if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else "a socket"


def file_problem(path: Path) -> str | None:
    """Return the reason why a path is not a file that can be read; None if it is one.

    Named pipes and devices are not: reading them can wait forever.

    Example:
        >>> file_problem(Path("/dev/null")), file_problem(Path("/")), file_problem(Path("/proc/nosuch"))
        ('is a device, not a file', 'is a folder, not a file', 'file not found')
    """
    mode = _mode(path)
    if mode is None:
        return "file not found"
    if isinstance(mode, str):
        return mode
    if not stat.S_ISREG(mode):
        return f"is {_kind(mode)}, not a file"
    return None if os.access(path, os.R_OK) else "permission denied"


def check_file(path: Path, location: str = "") -> Path:
    """Return a path if it is a regular file that can be read.

    Args:
        path: the file.
        location: name of the parameter that holds the path, for the message.

    Raises:
        UserError: it is not; the message says why.

    Example:
        >>> check_file(Path("/proc/nosuch"), "dataset.path")
        Traceback (most recent call last):
        noisybench.errors.UserError: dataset.path: /proc/nosuch: file not found
    """
    problem = file_problem(path)
    if problem is not None:
        raise UserError(f"{location}{': ' if location else ''}{shown(path)}: {problem}")
    return path


def read_text(path: Path, location: str = "") -> str:
    """Return the text of a regular file in UTF-8, without a byte order mark.

    Raises:
        UserError: it is no such file, or not encoded in UTF-8.
    """
    prefix = f"{location}: " if location else ""
    try:
        return check_file(path, location).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{prefix}{shown(path)}: not encoded in UTF-8 ({error.reason} at byte {error.start}); save the file in UTF-8"
        ) from None
    except OSError as error:
        raise UserError(f"{prefix}{shown(path)}: cannot be read ({error.strerror})") from None


def check_output_file(path: Path, suffixes: Collection[str] = ()) -> Path:
    """Check before any work that a file can be written, and create its folder.

    Args:
        path: the file, which may exist.
        suffixes: allowed suffixes; none allows all.

    Raises:
        UserError: it cannot be written, is a folder or a pipe, or has another suffix.

    Example:
        >>> check_output_file(Path("/dev"))
        Traceback (most recent call last):
        noisybench.errors.UserError: /dev cannot be written: it is a folder
        >>> check_output_file(Path("noise.txt"), (".png", ".svg"))
        Traceback (most recent call last):
        noisybench.errors.UserError: noise.txt cannot be written: its name must end in .png or .svg
    """
    if suffixes and path.suffix.lower() not in suffixes:
        *others, last = suffixes
        allowed = f"{', '.join(others)} or {last}" if others else last
        raise UserError(f"{shown(path)} cannot be written: its name must end in {allowed}")
    if path.is_symlink():
        check_output_file(Path(os.path.realpath(path)))
    mode = _mode(path)
    # Devices such as /dev/stdout can be written; opening a pipe without a reader would wait forever.
    if isinstance(mode, str) or (mode is not None and not (stat.S_ISREG(mode) or stat.S_ISCHR(mode))):
        raise UserError(f"{shown(path)} cannot be written: {mode if isinstance(mode, str) else f'it is {_kind(mode)}'}")
    if mode is None and not path.is_symlink():
        check_output_folder(path.parent)
        # Some names, such as those in /proc, are refused only when the file is opened.
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            path.unlink()
        except FileExistsError:
            pass  # written by another process in the meantime
        except OSError as error:
            raise UserError(f"{shown(path)} cannot be written: {error.strerror}") from None
    elif mode is not None and not os.access(path, os.W_OK):
        raise UserError(f"{shown(path)} cannot be written: permission denied")
    return path


def check_output_folder(path: Path) -> Path:
    """Create a folder if it is missing, and check that files can be written in it.

    Raises:
        UserError: it cannot be created or written.

    Example:
        >>> check_output_folder(Path("/dev/null"))
        Traceback (most recent call last):
        noisybench.errors.UserError: /dev/null cannot be written: it is not a folder
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UserError(f"{shown(path)} cannot be written: it is not a folder") from None
    except OSError as error:
        raise UserError(f"{shown(path)} cannot be written: {error.strerror}") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"{shown(path)} cannot be written: permission denied")
    return path
