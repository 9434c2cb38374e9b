"""Digests of the bytes of files and folders, with a cache so that unchanged files are not read again.

Two levels of cache lie in the user's cache folder. The digest of a whole set of files is kept under a digest of its
listing: names, sizes, modification and change times and inode numbers. If any of them differs, the digests of single
files, kept for each folder, save reading those that have not changed. A damaged cache is ignored, and processes that
write at once replace each other's files as a whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path

from noisybench.errors import UserError
from noisybench.utils.digest_cache import DigestCache
from noisybench.utils.file_listing import ListedFile, Source, list_source, unreadable

FORMAT = 1
"""Version of the digests. Raise it when the same files would get another digest."""

SETTLING_SECONDS = 2.0
"""Age below which a change of a file could share its time stamp with a later one; such files are not cached."""

CACHED_FROM = 2**18
"""Bytes to read, with `FILE_COST` for each file, from which a digest is cached; reading less is as fast."""

FILE_COST = 2**13
"""Bytes that are read in the time that opening a file takes."""

CHUNK_SIZE = 64
"""Number of files that a thread reads at a time."""

READ_AT_ONCE = 2**20
"""Largest size of a file in bytes that is read whole."""

_snapshot: ContextVar[dict[tuple[tuple[str, Source], ...], str] | None] = ContextVar("snapshot", default=None)


@contextlib.contextmanager
def snapshot() -> Iterator[None]:
    """Digest the same files once inside the block, for commands that plan many runs on the same data."""
    token = _snapshot.set({} if _snapshot.get() is None else _snapshot.get())
    try:
        yield
    finally:
        _snapshot.reset(token)


def digest_files(sources: Mapping[str, Source]) -> str:
    """Return the SHA-256 over names and bytes of files; folders count with all files and folders below them.

    Names are the keys of ``sources`` and paths relative to them, so moved data keep their digest. Links count as what
    they lead to. FIFOs, sockets and devices are never opened.

    Args:
        sources: files and folders by names that do not depend on their location.

    Raises:
        FileNotFoundError: a source does not exist.
        UserError: a file or folder cannot be read; the message names it.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "a.txt").write_text("same size")
        >>> before = digest_files({"root": folder})
        >>> _ = (folder / "a.txt").write_text("SAME SIZE")
        >>> digest_files({"root": folder}) == before
        False
    """
    known, key = _snapshot.get(), tuple(sources.items())
    if known is not None and key in known:
        return known[key]
    digest = _digest(sources)
    if known is not None:
        known[key] = digest
    return digest


def _digest(sources: Mapping[str, Source]) -> str:
    files = [file for name, source in sorted(sources.items()) for file in list_source(os.fsencode(name), source)]
    # A name cannot contain a zero byte, so different listings never give the same text.
    lines = [b"%b\0%d %d %d %d%b" % (name, *(status or (0, 0, 0, 0)), note) for name, _, status, note in files]
    listing = hashlib.sha256(b"%d\n" % FORMAT + b"\n".join(lines))
    # The listing has all names, so the path of each source suffices.
    paths = [f"{name}\0{source if isinstance(source, Path) else source.path}" for name, source in sources.items()]
    place = "\0".join([os.getcwd(), *paths])
    cache = DigestCache(f"set-{hashlib.sha256(os.fsencode(place)).hexdigest()[:32]}")
    if (digest := cache.entries.get(listing.hexdigest())) is not None:
        return str(digest)
    is_costly = sum(file.status[0] + FILE_COST for file in files if file.status) >= CACHED_FROM
    by_path = _read([file for file in files if file.status], is_costly)
    content = hashlib.sha256(b"%d\n" % FORMAT)
    for file in files:
        content.update(b"%b\0%b\n" % (file.name, file.note or by_path[file.path].encode()))
    if is_costly and not any(_is_settling(file) for file in files):
        cache.replace({listing.hexdigest(): content.hexdigest()})
    return content.hexdigest()


def _is_settling(file: ListedFile) -> bool:
    """Return True if a file has changed so recently that a further change could leave its status the same."""
    if file.status is None:
        return False
    now, limit = time.time_ns(), SETTLING_SECONDS * 1e9
    return any(abs(now - changed) < limit for changed in file.status[1:3])


def _read(files: list[ListedFile], is_costly: bool) -> dict[bytes, str]:
    """Return the SHA-256 of each file by its path, from the cache where the file has not changed."""
    digests: dict[bytes, str] = {}
    by_folder: dict[bytes, list[ListedFile]] = {}
    for file in files:
        by_folder.setdefault(os.path.dirname(file.path), []).append(file)
    caches, missing = {}, []
    for folder, members in by_folder.items():
        cache = caches[folder] = DigestCache(
            f"files-{hashlib.sha256(os.path.abspath(folder)).hexdigest()[:32]}", is_costly
        )
        for file in members:
            entry = cache.entries.get(os.fsdecode(os.path.basename(file.path)))
            if isinstance(entry, list) and entry[:-1] == list(file.status or ()):
                digests[file.path] = str(entry[-1])
            else:
                missing.append(file)
    chunks = [missing[start : start + CHUNK_SIZE] for start in range(0, len(missing), CHUNK_SIZE)]
    # Threads suffice: reading files and hashing their bytes release the interpreter lock.
    with ThreadPoolExecutor() as pool:
        for chunk, values in zip(
            chunks, pool.map(lambda chunk: [_hash(file.path) for file in chunk], chunks), strict=True
        ):
            digests.update(zip((file.path for file in chunk), values, strict=True))
    changed = {os.path.dirname(file.path) for file in missing}
    for folder, cache in caches.items():
        if is_costly and folder in changed:
            cache.replace(
                # Other files of the folder are kept: several lists may share one folder.
                cache.entries
                | {
                    os.fsdecode(os.path.basename(file.path)): [*(file.status or ()), digests[file.path]]
                    for file in by_folder[folder]
                    if not _is_settling(file)
                }
            )
    return digests


def _hash(path: bytes) -> str:
    """Return the SHA-256 of a regular file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        # Without blocking: if a FIFO has replaced the file, opening it would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError("it is not a regular file any longer")
            if status.st_size <= READ_AT_ONCE:
                digest, data = hashlib.sha256(), os.read(descriptor, READ_AT_ONCE)
                while data:
                    digest.update(data)
                    data = os.read(descriptor, READ_AT_ONCE)
                return digest.hexdigest()
            with open(descriptor, "rb", closefd=False) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UserError(unreadable(os.fsdecode(path), error)) from None
