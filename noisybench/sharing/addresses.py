"""Addresses of published label sets: a folder, a URL of any filesystem of fsspec, or a dataset of the Hugging Face Hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO, Protocol

from noisybench.errors import UserError, show
from noisybench.utils.places import expand_user

HUB = "hf://"

CHUNK = 2**20
"""Number of bytes that are copied at a time."""


class Store(Protocol):
    """Files of one published label set, wherever they are.

    Attributes:
        address: address for messages.
        default_name: name of the folder that a copy has unless another one is given.
    """

    address: str
    default_name: str

    def names(self) -> set[str] | None:
        """Return the names of all files; None if the place cannot list them."""

    def read(self, name: str, target: Path, limit: int) -> None:
        """Copy a file, but at most ``limit`` bytes and one more, which shows that it is longer.

        Raises:
            FileNotFoundError: there is no such file.
        """

    def write(self, folder: Path, names: list[str], obsolete: list[str]) -> None:
        """Copy the files of a folder in this order, which ends with the index, and delete obsolete ones."""


def open_store(address: str) -> Store:
    """Return the store of an address.

    Args:
        address: path of a folder, a URL such as ``s3://bucket/labels``, or ``hf://datasets/user/name``.

    Raises:
        UserError: the address is malformed, or the library for it is not installed.

    Example:
        >>> open_store("labels/pair").default_name
        'pair'
        >>> open_store("hf://datasets/name")
        Traceback (most recent call last):
        noisybench.errors.UserError: 'hf://datasets/name': expected hf://datasets/USER/NAME, or
        hf://datasets/USER/NAME@REVISION
    """
    # Imported here: each needs libraries that are slow to import, or optional.
    if not address.strip():
        raise UserError("the address of the label set is empty; give a folder, a URL or hf://datasets/USER/NAME")
    if address.startswith(HUB):
        from noisybench.sharing.hub import HubStore

        match = re.fullmatch(r"hf://datasets/([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?/?", address)
        if match is None:
            raise UserError(f"{show(address)}: expected hf://datasets/USER/NAME, or hf://datasets/USER/NAME@REVISION")
        return HubStore(match[1], match[2])
    if address.startswith(("file://", "local://")):
        address = address.partition("://")[2]
    if "://" in address or "::" in address:
        from noisybench.sharing.remote import RemoteStore

        return RemoteStore(address)
    from noisybench.sharing.folder import FolderStore

    return FolderStore(expand_user(Path(address)))


def copy_limited(source: IO[bytes], target: Path, limit: int) -> None:
    """Copy an open file to a new one, but at most ``limit`` bytes and one more."""
    with target.open("xb") as file:
        left = limit + 1
        while left > 0 and (chunk := source.read(min(left, CHUNK))):
            file.write(chunk)
            left -= len(chunk)
