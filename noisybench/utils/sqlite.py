"""SQLite files: created as a whole, inspected without a change, copied, and set aside with their journals."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from noisybench.utils.files import set_aside, sync_file, sync_folder

JOURNALS = ("-wal", "-shm", "-journal")
"""Suffixes of the files that SQLite keeps beside a database."""

LOCK_TIMEOUT = 30
"""Seconds to wait for a database that another process is writing."""


@contextlib.contextmanager
def opened(path: Path, timeout: float = LOCK_TIMEOUT) -> Iterator[sqlite3.Connection]:
    """Open an existing database and close it at the end.

    Args:
        path: the database.
        timeout: seconds to wait for the lock of another process.

    Raises:
        sqlite3.Error: the file does not exist or is no database.
    """
    # `rw` does not create a missing file, and recovers the journal that a killed process has left. In a folder that
    # cannot be written, SQLite cannot create the files that it needs beside the database even for a reader.
    mode = "mode=rw" if os.access(path.parent, os.W_OK) else "immutable=1"
    uri = f"{path.absolute().as_uri()}?{mode}"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=timeout)) as connection:
        yield connection


def create_whole(path: Path, fill: Callable[[Path], None]) -> None:
    """Create a database in a temporary folder beside it, and move it into place when it is complete.

    However this ends, even by a power cut, ``path`` is either absent or a complete database in WAL mode, which allows
    reads during writes. The caller holds a lock: folders that killed processes have left are deleted.

    Args:
        path: database to create. An existing file is replaced.
        fill: function that creates the tables in the file that it receives, and closes all its connections.

    Example:
        >>> def fill(draft):
        ...     with contextlib.closing(sqlite3.connect(draft)) as connection:
        ...         _ = connection.execute("CREATE TABLE runs (name)")
        >>> path = Path(tempfile.mkdtemp()) / "runs.db"
        >>> create_whole(path, fill)
        >>> filled_tables(path), [file.name for file in path.parent.iterdir()]
        ({'runs': False}, ['runs.db'])
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for unfinished in unfinished_folders(path):
        shutil.rmtree(unfinished, ignore_errors=True)
    # A name of its own at each attempt, because libraries keep connections open by the name of the file.
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.new-", dir=path.parent))
    try:
        draft = folder / path.name
        fill(draft)
        with contextlib.closing(sqlite3.connect(draft)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        sync_file(draft)
        # A journal that belonged to a deleted database would be applied to the new one.
        for suffix in JOURNALS:
            set_aside(path.with_name(path.name + suffix))
        draft.replace(path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def unfinished_folders(path: Path) -> list[Path]:
    """Return the folders in which `create_whole` was interrupted by the end of its process."""
    return sorted(path.parent.glob(f".{path.name}.new-*"))


def filled_tables(path: Path) -> dict[str, bool]:
    """Return for each table of a database whether it has any rows.

    Raises:
        sqlite3.Error: the file is no database or is damaged.
    """
    with opened(path) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            table: bool(connection.execute(f'SELECT EXISTS (SELECT 1 FROM "{table}")').fetchone()[0])
            for table in tables
        }


def set_aside_database(path: Path) -> Path | None:
    """Rename a database together with its journals, which hold its latest changes; return its new path."""
    target = set_aside(path)
    if target is not None:
        for suffix in JOURNALS:
            journal = path.with_name(path.name + suffix)
            if journal.exists():
                journal.rename(target.with_name(target.name + suffix))
        sync_folder(path.parent)
    return target


def copy_database(path: Path, folder: Path) -> Path:
    """Copy a database with its journal to a folder, without any write beside the original, and return the copy."""
    for suffix in ("", "-wal"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            shutil.copyfile(source, folder / source.name)
    return folder / path.name
