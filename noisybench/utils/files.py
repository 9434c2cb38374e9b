"""Cache folder, atomic writes and verified downloads."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import os
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from noisybench.errors import UserError
from noisybench.utils.places import expand_user

DOWNLOAD_TIMEOUT = 30
"""Seconds without an answer after which a download fails."""

PARTIAL = ".partial-"
"""Start of the names of files that are being written. One that is left over belongs to a process that was killed."""

DAMAGED = ".damaged-"
"""Part of the names of files that were set aside, before their number."""


class NoHomeFolder(UserError, RuntimeError):
    """The user has no home folder."""


def cache_folder() -> Path:
    """Return the folder of downloads and decoded images.

    The environment variable `NOISYBENCH_CACHE` overrides the user's cache folder of the operating system.

    Raises:
        NoHomeFolder: the user has no home folder, and the variable is not set.
    """
    import platformdirs

    name = os.environ.get("NOISYBENCH_CACHE")
    if name:
        return expand_user(Path(name))
    message = "this user has no home folder for the cache; set HOME, or set NOISYBENCH_CACHE to a folder"
    try:
        folder = platformdirs.user_cache_path("noisybench")
    # Neither HOME nor the list of users has a home folder; older versions of platformdirs return the path with `~`.
    except RuntimeError:
        raise NoHomeFolder(message) from None
    if folder.parts[:1] == ("~",):
        raise NoHomeFolder(message)
    return folder


@contextlib.contextmanager
def wrap_cache_errors() -> Iterator[None]:
    """Turn an `OSError` of a write to the cache folder into a message that says what to do.

    Raises:
        UserError: the cache folder cannot be written.
    """
    folder = cache_folder()
    try:
        yield
    except OSError as error:
        # A file that cannot be read has its own message.
        if error.filename is not None and not Path(error.filename).is_relative_to(folder):
            raise
        raise UserError(
            f"the cache folder {folder} cannot be written ({error.strerror or error}); set NOISYBENCH_CACHE to a folder "
            "with free space that you may write"
        ) from None


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, so that a rename outlives a power cut."""
    # Some file systems refuse to synchronize folders; their renames are then as durable as they can be.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_file(path: Path) -> None:
    """Wait until the content of a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside ``path``, and move it there when the block has ended without an error.

    The file and its folder are synchronized with the disk: a crash or a power cut leaves either the old file or the
    complete new one. After an error, the temporary file is deleted and the old file is unchanged.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "state.json"
        >>> with replacing(path) as partial:
        ...     _ = partial.write_text("{}")
        >>> path.read_text(), [file.name for file in path.parent.iterdir()]
        ('{}', ['state.json'])
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, because a rename is atomic only within a file system. The process id keeps parallel writers
    # apart, and the suffix comes last, because NumPy and Matplotlib append theirs to any other name.
    partial = path.with_name(f"{PARTIAL}{os.getpid()}.{path.name}")
    try:
        yield partial
        # Before the rename: otherwise a power cut could leave the new name with an empty file.
        sync_file(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


def remove_partial_files(folder: Path, pattern: str, idle_seconds: float = 0.0) -> None:
    """Delete what killed processes of this machine have left of files that they were writing with `replacing`.

    Args:
        folder: folder of the files.
        pattern: pattern of the names of the files, such as ``*.zip``.
        idle_seconds: time without a change, for folders in which other machines may write as well.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> partial = folder / f"{PARTIAL}{2**22 + 1}.records.zip"  # above the largest process id
        >>> partial.touch()
        >>> remove_partial_files(folder, "*.zip")
        >>> partial.exists()
        False
    """
    import psutil

    for partial in folder.glob(f"{PARTIAL}*.{pattern}"):
        process = partial.name.removeprefix(PARTIAL).partition(".")[0]
        # Process ids have at most seven digits; other names are none of ours.
        if not process.isdecimal() or len(process) >= 8 or psutil.pid_exists(int(process)):
            continue
        with contextlib.suppress(FileNotFoundError):  # another process deletes it as well
            if time.time() - partial.stat().st_mtime >= idle_seconds:
                partial.unlink()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves either the old content or the new, never a part of it."""
    with replacing(path) as partial:
        partial.write_bytes(data)


def first_line(error: Exception) -> str:
    """Return the beginning of an exception's message, or its type if it has none.

    Example:
        >>> first_line(EOFError()), first_line(ValueError("empty\\nfile"))
        ('EOFError', 'empty')
    """
    text = str(error).strip()
    return text.splitlines()[0][:160] if text else type(error).__name__


def set_aside(path: Path) -> Path | None:
    """Rename a damaged file or folder so that it is neither read again nor lost, and return its new path.

    Returns:
        None if it does not exist.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "checkpoint.ckpt"
        >>> set_aside(path) is None
        True
        >>> path.touch()
        >>> set_aside(path).name
        'checkpoint.ckpt.damaged-1'
    """
    for number in itertools.count(1):
        target = path.with_name(f"{path.name}{DAMAGED}{number}")
        if target.exists():
            continue
        try:
            path.rename(target)
        except FileNotFoundError:
            return None
        return target
    raise AssertionError


def set_aside_with_note(path: Path, reason: str) -> None:
    """Rename a damaged file of finished work, and report that this work is done again."""
    target = set_aside(path)
    if target is not None:
        logging.getLogger("noisybench").warning(
            "%s is damaged (%s): it is made again, and the old file is kept as %s", path, reason, target.name
        )


def load_saved(path: Path, fields: Sequence[str]) -> dict[str, Any] | None:
    """Return the mapping that `saved_bytes` has stored in a file.

    Args:
        path: file of finished work.
        fields: keys that the mapping must have.

    Returns:
        None if the file does not exist, or is damaged: then it has been set aside.
    """
    import torch

    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        missing = [name for name in fields if name not in content]
    except Exception as error:
        # `torch.load` raises many types of exceptions for a damaged file.
        set_aside_with_note(path, first_line(error))
        return None
    if missing:
        set_aside_with_note(path, f"it lacks {', '.join(missing)}")
        return None
    return content


@contextlib.contextmanager
def wrap_write_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` inside the block into a message that names the path.

    Raises:
        UserError: the path cannot be written.

    Example:
        >>> import errno
        >>> with wrap_write_errors(Path("labels")):
        ...     raise OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28]")
        Traceback (most recent call last):
        noisybench.errors.UserError: labels cannot be written: No space left on device
    """
    try:
        yield
    except OSError as error:
        # Libraries put sentences of their own around the reason.
        reason = os.strerror(error.errno) if error.errno else first_line(error)
        raise UserError(f"{path} cannot be written: {reason}") from None


def require_writable(folder: Path) -> None:
    """Create a folder if needed, and check that files can be written there before any work starts.

    Raises:
        UserError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"the folder {folder.absolute()} cannot be written ({error.strerror}): checkpoints are kept there; run the "
            "command in another folder"
        ) from None


def saved_bytes(content: object) -> bytes:
    """Return the bytes that `torch.save` writes for an object."""
    import io

    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def download(url: str, sha256: str | None, path: Path) -> Path:
    """Download a file if it is missing, verify it, and return its path.

    Args:
        url: address of the file.
        sha256: expected checksum; None if none is published.
        path: where the file is stored.

    Raises:
        UserError: the file cannot be downloaded, or its checksum differs; the message says where to put the file.
    """
    if not path.is_file():
        try:
            with urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT) as response:
                data = response.read()
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise UserError(
                f"{url} cannot be downloaded ({reason}); download it on another machine and put it at {path}"
            ) from None
        # Verified in memory, so that an incomplete or altered download never exists as a file.
        if sha256 and hashlib.sha256(data).hexdigest() != sha256:
            raise UserError(f"{url} is not the published file (its SHA-256 differs); nothing was stored")
        with wrap_write_errors(path):
            write_atomically(path, data)
    elif sha256 and hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise UserError(f"{path} is not the published file (its SHA-256 differs); delete it and try again")
    return path
