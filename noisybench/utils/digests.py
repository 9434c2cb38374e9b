"""Digests of the content of files and folders."""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path


@functools.lru_cache(maxsize=4096)
def _file_digest(path: str, size: int, modified: int) -> str:
    # Size and modification time only serve as keys of the cache: a changed file is read again.
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(path: Path) -> str:
    """Return a digest of the content of a file or folder, so that moved data keeps the identity of its runs.

    For a file this is the SHA-256 of its bytes. For a folder it covers the relative names and sizes of the files:
    reading every image of a large folder to plan a suite would take minutes.
    """
    path = path.expanduser()
    if path.is_file():
        status = path.stat()
        return _file_digest(os.fspath(path), status.st_size, status.st_mtime_ns)
    if path.is_dir():
        # Sorted, because file systems list a folder in different orders.
        files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        listing = "\n".join(f"{p.relative_to(path).as_posix()} {p.stat().st_size}" for p in files)
        return hashlib.sha256(listing.encode()).hexdigest()
    # Not an error here: validation reports missing data together with all other problems of the runs.
    return f"absent:{path}"
