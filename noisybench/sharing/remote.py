"""A published label set at a URL of any installed filesystem of fsspec."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from noisybench.errors import UserError
from noisybench.sharing.addresses import copy_limited
from noisybench.utils.files import DOWNLOAD_TIMEOUT, first_line
from noisybench.utils.places import shown
from noisybench.utils.text import printable

WEB = ("http", "https")
"""Protocols of web servers, which neither list nor accept files."""


class RemoteStore:
    """Files of a label set below a URL."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.address = shown(without_password(self.url))
        self.default_name = urlsplit(self.url).path.rstrip("/").rpartition("/")[2] or "labels"
        self.protocol = self.url.partition("://")[0].rpartition("::")[2]
        with connection_errors(self.address):
            self._files, self._path = _filesystem(self.url, self.protocol)

    def names(self) -> set[str] | None:
        """Return the names of all files; None for a web server."""
        if self.protocol in WEB:
            return None
        with connection_errors(self.address):
            try:
                listed = self._files.ls(self._path, detail=False)
            except FileNotFoundError:
                return set()
            return {str(name).rstrip("/").rpartition("/")[2] for name in listed} - {""}

    def read(self, name: str, target: Path, limit: int) -> None:
        """Copy a file to this machine's ``target``."""
        # Streamed: without this, files of web servers that know no ranges are read into memory first.
        options = {"block_size": 0} if self.protocol in WEB else {}
        with connection_errors(self.address), self._files.open(f"{self._path}/{name}", "rb", **options) as source:
            copy_limited(source, target, limit)

    def write(self, folder: Path, names: list[str], obsolete: list[str]) -> None:
        """Upload files; the index, which is last, makes them a label set, so a copy that was interrupted is none."""
        if self.protocol in WEB:
            raise UserError(
                f"{self.address}: a web server can only be read; push to a folder that it serves, to s3:// or to hf://datasets/"
            )
        with connection_errors(self.address):
            self._files.makedirs(self._path, exist_ok=True)
            for name in obsolete:
                self._files.rm_file(f"{self._path}/{name}")
            for name in names:
                self._files.put_file(str(folder / name), f"{self._path}/{name}")


def _filesystem(url: str, protocol: str) -> tuple[Any, str]:
    """Return the filesystem of a URL, and the path in it.

    Raises:
        UserError: there is none for the protocol, or its library is not installed.
    """
    import fsspec
    from fsspec.core import url_to_fs

    if protocol not in fsspec.available_protocols():
        known = "folders, http://, https://, s3://, gs://, hf://datasets/ and the other filesystems of fsspec"
        raise UserError(f"{shown(url)}: unknown protocol `{printable(protocol)}`; known are {known}")
    options: dict[str, Any] = {}
    try:
        if protocol in WEB and "::" not in url:
            import aiohttp

            # The default ends a download after five minutes, however fast it is.
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=DOWNLOAD_TIMEOUT, sock_read=DOWNLOAD_TIMEOUT)
            options = {"client_kwargs": {"timeout": timeout}}
        files, path = url_to_fs(url, **options)
    except ImportError as error:
        package = "noisybench[share]" if protocol in WEB else f"another library ({first_line(error)})"
        raise UserError(f"{shown(without_password(url))}: {protocol}:// needs {package}; install it with pip") from None
    return files, path.rstrip("/")


def without_password(url: str) -> str:
    """Return a URL without user name, password and query, for messages.

    Example:
        >>> without_password("sftp://ann:secret@host/labels?token=1")
        'sftp://host/labels'
    """
    start, separator, rest = url.rpartition("://")
    host, slash, path = rest.partition("/")
    return f"{start}{separator}{host.rpartition('@')[2]}{slash}{path}".partition("?")[0]


@contextlib.contextmanager
def connection_errors(address: str) -> Iterator[None]:
    """Turn errors of a connection into a message; `FileNotFoundError` stays.

    Raises:
        UserError: the place cannot be reached, or refuses the access.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as raised:  # libraries of filesystems raise anything
        error = raised
        # The filesystem of web servers reports every error as a missing file, with the reason as its cause.
        while isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception):
            error = error.__cause__
        if isinstance(error, FileNotFoundError):
            raise error from None
        status = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, PermissionError) or status in (401, 403):
            raise UserError(
                f"{address}: access denied ({_reason(error)}); log in first (for the Hugging Face Hub: `hf auth login`, or set "
                "HF_TOKEN)"
            ) from None
        raise UserError(
            f"{address}: cannot be reached ({_reason(error)}); check the address and the network. Without a network, copy the "
            "folder of the label set to this machine and pull it from there"
        ) from None


def _reason(error: Exception) -> str:
    text = printable(first_line(error))
    return text if text == type(error).__name__ else f"{type(error).__name__}: {without_password(text)}"
