"""Files that carry records between stores: zip archives with a manifest of all contents and their digests.

An export has one or more parts, each a zip archive of its own. Contents are named by their SHA-256, stored once, and cut
into pieces where one does not fit into a part, so that any subset of the parts can be read: an item is complete when all
pieces of its contents are there.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import pydantic

from noisybench import __version__
from noisybench.errors import UserError
from noisybench.utils.files import remove_partial_files, replacing
from noisybench.utils.places import shown
from noisybench.utils.progress import with_progress

FORMAT: Literal[1] = 1
"""Number of the layout of an export. Files of another number are refused."""

MANIFEST = "manifest.json"
"""First member of each part."""

STORED_SUFFIXES = {".ckpt", ".pt", ".png"}
"""Suffixes of files that compression would not make smaller by a tenth: weights and images."""

MIN_PART_SIZE = 2**16
"""Smallest size of a part in bytes, which leaves room for the manifest."""

SHARED_FROM = 2**20
"""Size in bytes from which equal contents are stored once; smaller ones keep an item within one part."""

CHUNK = 2**20
"""Bytes that are read at a time."""

MEMBER_COST = 76
"""Bytes of a member's two headers in a zip archive, without its name, which stands in both."""

ENTRY_COST = 200
"""Most bytes that the manifest needs for a member or a content, besides names."""

DATE = (1980, 1, 1, 0, 0, 0)
"""Date of all members, so that equal contents give equal archives."""

Kind = Literal["run", "suite", "checkpoint", "auxiliary"]
"""Kinds of items: a tracked run, the parent run of a suite and setting, the folder of an unfinished run, and a file of the folder
of auxiliary runs."""


def _check_path(path: str) -> str:
    """Return a relative path that stays in its folder on every system.

    Raises:
        ValueError: it does not.
    """
    parts = path.split("/")
    if (
        not path
        or len(path) > 1000
        or any(part in ("", ".", "..") for part in parts)
        or re.search(r"[\\\0-\x1f]|^[A-Za-z]:", path)
    ):
        raise ValueError(f"unsafe path {path[:80]!r}")
    return path


SafePath = Annotated[str, pydantic.AfterValidator(_check_path)]
Digest = Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, pydantic.Field(ge=0)]


class _Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)


class Item(_Model):
    """One unit of an export, which is imported as a whole.

    Attributes:
        kind: kind of the item.
        id: MLflow id of a run, identity of an unfinished run, or name of a file of the folder of auxiliary runs.
        title: one-line description.
        files: SHA-256 of each file by its path.
    """

    kind: Kind
    id: str = pydantic.Field(pattern=r"^[\w-][\w.-]{0,99}$")
    title: str = pydantic.Field(max_length=10_000)
    files: dict[SafePath, Digest] = pydantic.Field(min_length=1)


class Member(_Model):
    """One member of a part: a content, or a piece of one that begins at an offset in bytes."""

    name: SafePath
    sha256: Digest
    offset: Size
    size: Size


class Manifest(_Model):
    """Manifest of one part.

    Attributes:
        format: `FORMAT`.
        noisybench: version that wrote the export.
        export: digest of all items of the export.
        part: number of this part, from 1.
        parts: number of parts.
        sizes: size in bytes of each content that this part has members of.
        members: members of this part.
        items: items with contents in this part.
    """

    format: Literal[1]
    noisybench: str
    export: str
    part: int = pydantic.Field(ge=1)
    parts: int = pydantic.Field(ge=1)
    sizes: dict[Digest, Size]
    members: list[Member]
    items: list[Item]


@dataclass
class Draft:
    """An item before it is written.

    Attributes:
        kind: kind of the item.
        id: id of the item.
        title: one-line description.
        files: content of each file, or the file to read it from, by path.
    """

    kind: Kind
    id: str
    title: str
    files: dict[str, Path | bytes]


@dataclass
class _Part:
    """Members and items of a part that is being planned, and the bytes that are left in it."""

    free: int
    members: list[tuple[Member, Path | bytes]] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)


def write_parts(drafts: Sequence[Draft], output: Path, max_size: int | None = None) -> list[Path]:
    """Write an export, and return its files: ``output``, or parts such as ``output-part1of3.zip`` if one is too small.

    Parts get their names when all are complete. After an error, none exists and earlier files are unchanged.

    Args:
        drafts: the items.
        output: file to write, whose name ends in ``.zip``.
        max_size: largest size of a file in bytes, at least `MIN_PART_SIZE`.

    Raises:
        UserError: an item has too many files for parts of this size, or a file cannot be read or written.
    """
    planner = _Planner(max_size)
    try:
        for draft in with_progress(drafts, "read files", len(drafts)):
            planner.add(draft)
    except OSError as error:
        raise UserError(f"{shown(error.filename or '')} cannot be read: {error.strerror}") from None
    parts = planner.parts
    everything = [item.model_dump() for part in parts for item in part.items]
    export = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:16]
    names = [
        output if len(parts) == 1 else output.with_name(f"{output.stem}-part{number}of{len(parts)}{output.suffix}")
        for number in range(1, len(parts) + 1)
    ]
    try:
        # Parts have other names if there were more or fewer of them.
        for ending in ("", "-part*of*"):
            remove_partial_files(output.parent, glob.escape(output.stem) + ending + output.suffix)
        with contextlib.ExitStack() as stack:
            for number, (part, name) in enumerate(zip(parts, names, strict=True), 1):
                manifest = Manifest(
                    format=FORMAT,
                    noisybench=__version__,
                    export=export,
                    part=number,
                    parts=len(parts),
                    sizes={member.sha256: planner.sizes[member.sha256] for member, _ in part.members},
                    members=[member for member, _ in part.members],
                    items=part.items,
                )
                # Renamed only when the block ends, so that no name exists before all parts are complete.
                _write_part(stack.enter_context(replacing(name)), manifest, part)
    except OSError as error:
        raise UserError(f"{shown(output)} cannot be written: {error.strerror or error}; nothing was exported") from None
    return names


def _write_part(path: Path, manifest: Manifest, part: _Part) -> None:
    with zipfile.ZipFile(path, "w", compresslevel=6) as archive:
        archive.writestr(_zip_info(MANIFEST, compressed=True), manifest.model_dump_json(indent=1))
        for member, source in with_progress(part.members, f"write {path.name}", len(part.members)):
            digest, is_whole = hashlib.sha256(), member.size == manifest.sizes[member.sha256]
            info = _zip_info(member.name, compressed=is_whole and _is_compressible(member.name))
            with archive.open(info, "w", force_zip64=member.size >= 2**31) as target:
                for chunk in _chunks(source, member.offset, member.size):
                    digest.update(chunk)
                    target.write(chunk)
            if is_whole and digest.hexdigest() != member.sha256:
                raise UserError(f"{shown(str(source))} has changed during the export; run the command again")


def _zip_info(name: str, compressed: bool) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, DATE)
    info.external_attr = 0o100644 << 16
    info.compress_type = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    return info


def _is_compressible(name: str) -> bool:
    return PurePosixPath(name).suffix not in STORED_SUFFIXES


def _chunks(source: Path | bytes, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
    """Yield a range of a content in chunks; all of it by default."""
    if isinstance(source, bytes):
        yield source[offset : None if size is None else offset + size]
        return
    with source.open("rb") as file:
        file.seek(offset)
        while size is None or size > 0:
            chunk = file.read(CHUNK if size is None else min(CHUNK, size))
            if not chunk:
                return
            size = None if size is None else size - len(chunk)
            yield chunk


class _Planner:
    """Distribute items over parts of limited size.

    Args:
        max_size: largest size of a part in bytes; None for one part of any size.

    Attributes:
        parts: planned parts.
        sizes: size of each content by its digest.
    """

    def __init__(self, max_size: int | None) -> None:
        # The manifest is counted uncompressed; the constant covers its other fields and the end of the archive.
        self._capacity = (max_size - 1000) if max_size is not None else 2**62
        self._max_size = max_size
        self.parts: list[_Part] = []
        self.sizes: dict[str, int] = {}

    def add(self, draft: Draft) -> None:
        """Add an item to the first part with enough space, or distribute it over new parts if it is too large for one."""
        files, costs, sources = dict[str, str](), dict[str, int](), dict[str, tuple[str, Path | bytes]]()
        for path, source in draft.files.items():
            name = f"{draft.kind}/{draft.id}/{path}"
            sha256, size, packed = _measure(source, _is_compressible(name))
            files[path] = sha256
            if (sha256 in self.sizes and size >= SHARED_FROM) or sha256 in sources:
                continue
            self.sizes[sha256] = size
            sources[sha256] = (name, source)
            costs[sha256] = packed + _cost(name)
        try:
            item = Item(kind=draft.kind, id=draft.id, title=draft.title, files=files)
        except pydantic.ValidationError as error:
            reason = error.errors(include_url=False)[0]["msg"]
            raise UserError(f"{draft.title} ({draft.id}) cannot be exported: {reason}; rename this file") from None
        entry = len(item.model_dump_json(indent=1).encode()) + 8 * (len(files) + 5)
        needed = entry + sum(costs.values())
        if needed > self._capacity:
            self._split(item, entry, sources, costs)
            return
        part = next((part for part in self.parts if part.free >= needed), None) or self._new_part()
        self._place(part, item, entry)
        for sha256, (name, source) in sources.items():
            part.members.append((Member(name=name, sha256=sha256, offset=0, size=self.sizes[sha256]), source))
            part.free -= costs[sha256]

    def _split(
        self, item: Item, entry: int, sources: dict[str, tuple[str, Path | bytes]], costs: dict[str, int]
    ) -> None:
        if entry + 4096 > self._capacity:
            raise UserError(
                f"--max-size: {item.title} has {len(item.files)} files, whose list alone does not fit into a part of "
                f"{self._max_size} bytes; choose a larger size"
            )
        part = self._place(self._new_part(), item, entry)
        for sha256, (name, source) in sources.items():
            size = self.sizes[sha256]
            if costs[sha256] <= part.free:
                part.members.append((Member(name=name, sha256=sha256, offset=0, size=size), source))
                part.free -= costs[sha256]
                continue
            offset, number = 0, 1
            while offset < size:
                piece_name = f"{name}.piece{number}"
                space = part.free - _cost(piece_name)
                if space < 1024:
                    part = self._place(self._new_part(), item, entry)
                    continue
                count = min(space, size - offset)
                part.members.append((Member(name=piece_name, sha256=sha256, offset=offset, size=count), source))
                part.free -= count + _cost(piece_name)
                offset, number = offset + count, number + 1

    def _new_part(self) -> _Part:
        self.parts.append(_Part(self._capacity))
        return self.parts[-1]

    @staticmethod
    def _place(part: _Part, item: Item, entry: int) -> _Part:
        part.items.append(item)
        part.free -= entry
        return part


def _cost(name: str) -> int:
    """Return the most bytes that a member needs besides its content: headers, and its entries in the manifest."""
    return MEMBER_COST + ENTRY_COST + 3 * len(name.encode())


def _measure(source: Path | bytes, compressible: bool) -> tuple[str, int, int]:
    """Return the SHA-256, the size, and the size in an archive of a content in bytes."""
    digest, size, packed = hashlib.sha256(), 0, 0
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    for chunk in _chunks(source):
        digest.update(chunk)
        size += len(chunk)
        packed += len(compressor.compress(chunk)) if compressible else len(chunk)
    return digest.hexdigest(), size, packed + (len(compressor.flush()) if compressible else 0)
