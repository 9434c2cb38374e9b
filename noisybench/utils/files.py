"""Where files are kept between runs, and how they get there whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from noisybench.errors import UserError


def cache_folder() -> Path:
    """Folder for downloads and decoded images: `NOISYBENCH_CACHE`, else `~/.cache/noisybench`."""
    given = os.environ.get("NOISYBENCH_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    return Path(given).expanduser() if given else base / "noisybench"


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves either the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(data)
    partial.replace(path)


@contextlib.contextmanager
def wrap_write_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` inside the block into a message that names the path.

    Raises:
        UserError: the path cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None


def saved_bytes(content: object) -> bytes:
    """Return the bytes that `torch.save` writes for an object."""
    import io

    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def plain_cell(text: str) -> str:
    """Text for a cell of a table that spreadsheets open: what they would take for a formula gets a leading apostrophe."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def download(url: str, sha256: str | None, place: Path) -> Path:
    """Fetch a file once and check it.

    Args:
        url: where it is.
        sha256: what it must be; None where no checksum is published.
        place: where it is kept; returned at once if it is there already and right.

    Raises:
        UserError: no network, or the file is not the expected one; says which file to put where.
    """
    if not place.is_file():
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                data = answer.read()
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise UserError(
                f"{url} cannot be downloaded ({reason}); fetch it elsewhere and put it at {place}"
            ) from None
        if sha256 and hashlib.sha256(data).hexdigest() != sha256:
            raise UserError(f"{url} gave a file that is not the published one (its SHA-256 differs); nothing was kept")
        write_atomically(place, data)
    elif sha256 and hashlib.sha256(place.read_bytes()).hexdigest() != sha256:
        raise UserError(f"{place} is not the published file (its SHA-256 differs): delete it and try again")
    return place
