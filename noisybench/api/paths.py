"""Paths that callers of the library give as arguments."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from noisybench.errors import UserError
from noisybench.utils.places import expand_user, path_text, shown


def read_path(value: object, location: str) -> Path:
    """Return a path that may begin with ``~``, which need not exist.

    Args:
        value: an argument of a function of the library.
        location: name of the argument for messages.

    Raises:
        UserError: it is neither text nor a path, empty, or no name that a file could have.

    Example:
        >>> read_path("photos", "folder")
        PosixPath('photos')
        >>> read_path("x" * 5000, "folder")
        Traceback (most recent call last):
        noisybench.errors.UserError: folder: xxx...: file name too long
    """
    path = expand_user(Path(path_text(value, location)))
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            os.stat(path)
    except OSError as error:
        raise UserError(f"{location}: {shown(path)}: {str(error.strerror).lower()}") from None
    except ValueError:  # a null character
        raise UserError(f"{location}: {shown(path)}: not a valid path") from None
    return path
