"""Cache of parsed source files: a file that has not changed since the last command is not parsed again."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from noisybench.config.syntax import SYNTAX_FORMAT, ModuleSource
from noisybench.utils.files import cache_folder, write_atomically

RECENT_SECONDS = 2
"""Age from which a file's status identifies its content: within one tick of the clock, it can change unnoticed."""

MAX_ENTRIES = 5000
"""Number of files above which the cache only keeps those of the present command."""

Status = tuple[int, int, int, int]
"""Size, time of modification, time of change and inode of a file."""

Entries = dict[str, tuple[Status, ModuleSource]]

_parsed: dict[Path, tuple[Status, Entries]] = {}
"""Content of a cache file by its path and status; forked processes inherit it, and do not parse the file again."""


class SourceCache:
    """Digests and imports of source files by path and status, in the user's cache folder.

    A damaged cache is ignored and replaced. Files on a read-only disk are parsed every time.
    """

    def __init__(self) -> None:
        self._path = cache_folder() / "source_code.json"
        self._entries = _load(self._path)
        self._used: set[str] = set()
        self._changed = False

    def get(self, path: Path, module: str, read: Callable[[bytes], ModuleSource]) -> ModuleSource:
        """Return the source of a module, which ``read`` parses if its file has changed.

        Args:
            path: file.
            module: absolute name of the module.
            read: parser of the content.
        """
        key, status = f"{module} {path}", _status(path)
        self._used.add(key)
        if key in self._entries and self._entries[key][0] == status:
            return self._entries[key][1]
        source = read(path.read_bytes())
        # A file that changed while it was read, or just before, may have other content with the same status.
        if status == _status(path) and time.time_ns() - max(status[1:3]) > RECENT_SECONDS * 10**9:
            self._entries[key] = (status, source)
            self._changed = True
        return source

    def save(self) -> None:
        """Write the cache if a file was parsed; several commands may do so at once."""
        if not self._changed:
            return
        entries = self._entries
        if len(entries) > MAX_ENTRIES:
            entries = {key: value for key, value in entries.items() if key in self._used}
        content = {
            "format": SYNTAX_FORMAT,
            "files": {key: [*status, source.digest, *source.imports] for key, (status, source) in entries.items()},
        }
        with contextlib.suppress(OSError):
            write_atomically(self._path, json.dumps(content).encode())
        self._changed = False


def _load(path: Path) -> Entries:
    """Return the entries of a cache file; none if it is missing, damaged or of another format."""
    try:
        status = _status(path)
        if path not in _parsed or _parsed[path][0] != status:
            # The file is only ever replaced, never changed. If that happens here, the status is the old one, and the
            # next call reads the file again.
            _parsed[path] = (status, _parse(path.read_bytes()))
        return dict(_parsed[path][1])  # a copy, because a cache adds to its entries
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _parse(content: bytes) -> Entries:
    cache = json.loads(content)
    if cache["format"] != SYNTAX_FORMAT:
        return {}
    return {
        key: ((int(size), int(modified), int(changed), int(inode)), ModuleSource(str(digest), tuple(imports)))
        for key, (size, modified, changed, inode, digest, *imports) in cache["files"].items()
    }


def _status(path: Path) -> Status:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
