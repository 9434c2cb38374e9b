"""Listings of the files that components read: names and status, without opening any of them."""

from __future__ import annotations

import errno
import operator
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from noisybench.errors import UserError
from noisybench.utils.places import expand_user, shown


@dataclass(frozen=True)
class FileTree:
    """Files below a folder that a component reads.

    Attributes:
        path: the folder.
        suffixes: lower-case suffixes of the files that count, ("",) for any; hidden files and folders do not, see
            `is_hidden`. Empty for all files, hidden ones included.
    """

    path: Path
    suffixes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileList:
    """Listed files below a folder; missing ones count as missing.

    Attributes:
        path: the folder.
        names: paths relative to it.
    """

    path: Path
    names: tuple[str, ...]


Source = Path | FileTree | FileList
"""A file, a folder with everything in it, the files of some suffixes below a folder, or listed files."""


HIDDEN_NAMES = frozenset(
    (
        "__macosx", "icon\r", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "#recycle", "$recycle.bin", "lost+found",
        "system volume information", "__pycache__",
    )
)  # fmt: skip
"""Lower-case names of files and folders that operating systems and tools leave beside data."""


def is_hidden(name: str) -> bool:
    """Return True for names of files and folders that no person has made: hidden ones, and those in `HIDDEN_NAMES`.

    Example:
        >>> [is_hidden(name) for name in (".ipynb_checkpoints", "._cat.png", "__MACOSX", "Thumbs.db", "cat")]
        [True, True, True, True, False]
    """
    return name.startswith(".") or name.lower() in HIDDEN_NAMES


Status = tuple[int, int, int, int]
"""Size, modification time, change time (both in nanoseconds) and inode of a regular file."""


NOT_A_FILE = b"not a file"
"""Note of a link that leads nowhere, and of a FIFO, socket or device."""


class ListedFile(NamedTuple):
    """Entry of a listing: a regular file, or another entry that counts by its name alone."""

    name: bytes
    """Name in the digest, which does not depend on the location of the data."""
    path: bytes
    status: Status | None
    """None if there is nothing to read."""
    note: bytes = b""
    """Digest of an entry that is not read."""


def list_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files of some suffixes below a folder, sorted; those that `FileTree` counts.

    Links that lead nowhere are among them, so that readers report them.

    Raises:
        UserError: a folder cannot be read.
    """
    try:
        entries = _tree(b"", FileTree(folder, suffixes))
    except FileNotFoundError:
        return []
    return sorted(Path(os.fsdecode(file.path)) for file in entries if file.note in (b"", NOT_A_FILE))


def list_source(name: bytes, source: Source) -> list[ListedFile]:
    """Return the sorted entries of one source.

    Raises:
        FileNotFoundError: it does not exist.
        UserError: it cannot be read, or is neither a file nor a folder.
    """
    if isinstance(source, FileTree):
        return _tree(name, source)
    if isinstance(source, FileList):
        folder = str(expand_user(source.path))
        # Repeated names would be counted, but read once.
        return [_listed(name, folder, member) for member in sorted(set(source.names))]
    try:
        path = os.fsencode(expand_user(source))
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(source) from None
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(unreadable(source, error)) from None
    if stat.S_ISDIR(status.st_mode):
        return _tree(name, FileTree(source))
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{shown(source)}: is neither a file nor a folder; name a regular file")
    return [ListedFile(name, path, _key(status))]


def _listed(name: bytes, folder: str, member: str) -> ListedFile:
    """Return the entry of a file on a list."""
    path = os.path.join(folder, member)
    try:
        encoded = os.fsencode(path)
        entry_name = name + b"/" + os.fsencode(member)
        status = os.stat(encoded)
    except (FileNotFoundError, NotADirectoryError):
        return ListedFile(entry_name, encoded, None, b"missing")
    except (OSError, ValueError) as error:
        raise UserError(unreadable(path, error)) from None
    is_file = stat.S_ISREG(status.st_mode)
    return ListedFile(entry_name, encoded, _key(status) if is_file else None, b"" if is_file else NOT_A_FILE)


def _tree(name: bytes, tree: FileTree) -> list[ListedFile]:
    """Return the entries below a folder, in the order of their names."""
    suffixes = tuple(os.fsencode(suffix) for suffix in tree.suffixes)
    files: list[ListedFile] = []
    # Names of the folders by device and inode: a folder that a link leads to again is not entered twice.
    visited: dict[tuple[int, int], bytes] = {}
    try:
        pending = [(name, os.fsencode(expand_user(tree.path)))]
    except (ValueError, RuntimeError) as error:
        raise UserError(unreadable(tree.path, error)) from None
    while pending:
        folder_name, folder = pending.pop()
        try:
            status = os.stat(folder)
            first = visited.setdefault((status.st_dev, status.st_ino), folder_name)
            if first != folder_name and status.st_ino:
                files.append(ListedFile(folder_name, folder, None, b"link to " + first))
                continue
            files.append(ListedFile(folder_name, folder, None, b"folder"))
            folders = []
            with os.scandir(folder) as entries:
                for entry in entries:
                    if suffixes and is_hidden(os.fsdecode(entry.name)):
                        continue
                    entry_name = folder_name + b"/" + entry.name
                    status_key = _entry_status(entry)
                    if status_key == "folder":
                        folders.append((entry_name, entry.path))
                    elif not suffixes or entry.name.lower().endswith(suffixes):
                        note = b"" if status_key else NOT_A_FILE
                        files.append(ListedFile(entry_name, entry.path, status_key, note))
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(os.fsdecode(folder)) from None
        except (OSError, ValueError) as error:
            raise UserError(unreadable(os.fsdecode(folder), error)) from None
        # File systems list a folder in different orders.
        pending += sorted(folders, reverse=True)
    return sorted(files, key=operator.itemgetter(0))


def _entry_status(entry: os.DirEntry[bytes]) -> Status | Literal["folder"] | None:
    """Return the status of a regular file, or None for a link that leads nowhere and for what must not be opened."""
    try:
        if entry.is_dir():
            return "folder"
        return _key(entry.stat()) if entry.is_file() else None
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise UserError(unreadable(os.fsdecode(entry.path), error)) from None


def _key(status: os.stat_result) -> Status:
    # The change time as well: copying tools can restore the modification time of a file that they overwrite.
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def unreadable(path: Path | str, error: Exception) -> str:
    """Return a message for a file or folder that cannot be read.

    Example:
        >>> unreadable("images/cat", PermissionError(13, "Permission denied"))
        'images/cat: cannot be read (permission denied); correct its name or its permissions, or remove it from the data'
    """
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return (
        f"{shown(path)}: cannot be read ({reason[0].lower()}{reason[1:]}); correct its name or its permissions, or remove "
        "it from the data"
    )
