"""The index of a published label set: `files.json` names each file with its size and digest.

A server cannot list its files, so the index says what there is. Only files of label sets with fixed names are allowed:
a name of others never becomes part of a path.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import pydantic

from noisybench.data.label_sets.label_files import IMAGES, MASKS, TABLES, TRACES, VERIFIED, VOTES
from noisybench.data.label_sets.manifest import MANIFEST, Sha256
from noisybench.errors import UserError
from noisybench.utils.text import printable

INDEX: Final = "files.json"
CARD: Final = "README.md"

DATA_FILES = (MANIFEST, TABLES[0], MASKS, IMAGES, VOTES, VERIFIED, TRACES)
"""Files of a published label set beside its card; the table of classes is always parquet."""

MAX_SMALL = 2**20
"""Largest size of an index and of a card, in bytes."""

Name = Literal[
    "README.md", "manifest.json", "labels.parquet", "masks.npz", "images.npz", "votes.parquet", "verified.parquet",
    "traces.jsonl",
]  # fmt: skip


class FileEntry(pydantic.BaseModel):
    """Size in bytes and digest of one file."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)

    bytes: Annotated[int, pydantic.Field(ge=0)]
    sha256: Sha256


class Index(pydantic.BaseModel):
    """Content of `files.json`.

    Attributes:
        format: version of this file.
        label_set: hash of the label set, as in its manifest.
        files: entry of every other file.
    """

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)

    format: Literal[1]
    label_set: Sha256
    files: dict[Name, FileEntry]

    @pydantic.model_validator(mode="after")
    def _check_files(self) -> Index:
        missing = [name for name in (CARD, MANIFEST) if name not in self.files]
        if missing or not {TABLES[0], MASKS} & set(self.files):
            raise ValueError(f"{' and '.join(missing) or 'the file of the labels'} must be listed")
        if self.files[CARD].bytes > MAX_SMALL:
            raise ValueError(f"{CARD} must have at most {MAX_SMALL} bytes")
        return self

    @property
    def total_bytes(self) -> int:
        """Size of all files."""
        return sum(entry.bytes for entry in self.files.values())


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_index(folder: Path, label_set: str, names: Iterable[str]) -> bytes:
    """Return the text of the index of files in a folder.

    Args:
        folder: folder of the files.
        label_set: hash of the label set.
        names: names of the files.
    """
    files = {}
    for name in names:
        files[name] = {"bytes": (folder / name).stat().st_size, "sha256": file_digest(folder / name)}
    content = {"format": 1, "label_set": label_set, "files": files}
    Index.model_validate(content)
    return (json.dumps(content, indent=2) + "\n").encode()


def read_index(data: bytes, location: str) -> Index:
    """Read the text of an index.

    Args:
        data: content of the file.
        location: address of the label set, for the message.

    Raises:
        UserError: it is no index, names a file that no label set has, or has another format.

    Example:
        >>> read_index(b'{"format": 1, "label_set": "", "files": {"../x": {}}}', "labels")
        Traceback (most recent call last):
        noisybench.errors.UserError: labels: files.json is no index of a label set (label_set: ...
    """
    try:
        return Index.model_validate(json.loads(data))
    except RecursionError:
        problems = ["it is nested too deeply"]
    except pydantic.ValidationError as error:
        problems = [_describe(detail) for detail in error.errors()[:3]]
    except ValueError as error:
        problems = [printable(str(error))[:120]]
    raise UserError(
        f"{location}: {INDEX} is no index of a label set ({'; '.join(problems)}); it must be published with "
        "`noisybench labels push`"
    )


def _describe(detail: Any) -> str:
    place = ".".join(str(part) for part in detail["loc"] if part != "[key]")
    message = str(detail["msg"]).removeprefix("Value error, ")
    return printable(f"{place}: {message[:1].lower()}{message[1:]}" if place else message)[:160]
