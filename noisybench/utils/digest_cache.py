"""Cache of digests in the user's cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from noisybench.utils.files import cache_folder


@dataclass
class DigestCache:
    """One file of the cache: digests, with a checksum of the whole file.

    Attributes:
        name: name of the file.
        is_used: False for files that are not worth caching.
        entries: the content; empty if the file does not exist or is damaged.
    """

    name: str
    is_used: bool = True
    entries: dict[str, list[int | str] | str] = field(init=False)

    def __post_init__(self) -> None:
        self.entries = self._load() if self.is_used else {}

    @property
    def _path(self) -> Path:
        return cache_folder() / "digests" / self.name

    def _load(self) -> dict[str, list[int | str] | str]:
        try:
            checksum, _, data = self._path.read_bytes().partition(b"\n")
            if hashlib.sha256(data).hexdigest().encode() != checksum:
                return {}
            entries: dict[str, list[int | str] | str] = json.loads(data)
            return entries
        # RuntimeError: there is no home folder.
        except (OSError, ValueError, RuntimeError):
            return {}

    def replace(self, entries: Mapping[str, list[int | str] | str]) -> None:
        """Write the file as a whole; nothing happens if the cache folder cannot be written."""
        data = json.dumps(entries).encode()
        with contextlib.suppress(OSError, RuntimeError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Not `write_atomically`, which waits for the disk: after a crash, the checksum shows an incomplete file.
            partial = self._path.with_name(f".{self.name}.{os.getpid()}.{threading.get_ident()}")
            partial.write_bytes(hashlib.sha256(data).hexdigest().encode() + b"\n" + data)
            partial.replace(self._path)
