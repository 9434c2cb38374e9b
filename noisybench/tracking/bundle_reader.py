"""Read exports: every file is verified before anything is imported from it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import pydantic

from noisybench.errors import UserError
from noisybench.tracking.bundle import CHUNK, FORMAT, MANIFEST, Item, Manifest, Member
from noisybench.utils.files import first_line, replacing
from noisybench.utils.places import check_file, shown

MAX_MANIFEST_BYTES = 2**26
"""Largest manifest that is read."""

MAX_RATIO = 100
"""Largest ratio of the contents of a file to its size. Records shrink to a fifth; a bomb expands a thousandfold."""

DAMAGES = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError)
"""Exceptions of `zipfile` for archives that are damaged, encrypted or compressed in another way."""


class Bundle:
    """Verified contents of some parts of exports.

    Args:
        paths: files of one or more exports.

    Attributes:
        items: all items in order of the files, without repetitions.

    Raises:
        UserError: a file is damaged, foreign or of another format; the message names it.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._stack = contextlib.ExitStack()
        self._pieces: dict[str, dict[int, tuple[_PartFile, Member]]] = {}
        self._sizes: dict[str, int] = {}
        self._complete: set[str] = set()
        self.items: list[Item] = []
        self._exports: dict[str, dict[int, int]] = {}
        self._exports_of: dict[str, set[str]] = {}
        try:
            for path in paths:
                self._add(self._stack.enter_context(_opened(path)))
            # After all parts are known, since contents may be distributed over them.
            self._complete = {sha256 for sha256 in self._sizes if self._verify(sha256)}
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Bundle:
        """Keep the files open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self._stack.close()

    def missing_parts(self, item: Item) -> str | None:
        """Return which parts of its export may have the rest of an item; None if it is complete."""
        if all(sha256 in self._complete for sha256 in item.files.values()):
            return None
        missing = []
        for export in sorted(self._exports_of[item.model_dump_json()]):
            given = self._exports[export]
            parts = next(iter(given.values()))
            missing += [f"part{number}of{parts}" for number in range(1, parts + 1) if number not in given]
        return ", ".join(missing[:6]) + (f" and {len(missing) - 6} more" if len(missing) > 6 else "")

    @property
    def size(self) -> int:
        """Size of all complete contents in bytes."""
        return sum(self._sizes[sha256] for sha256 in self._complete)

    def read(self, sha256: str, limit: int) -> bytes:
        """Return a small content.

        Raises:
            ValueError: it has more than ``limit`` bytes.
        """
        if self._sizes[sha256] > limit:
            raise ValueError(f"it has {self._sizes[sha256]} bytes; at most {limit} are read")
        return b"".join(self._stream(sha256))

    def write(self, sha256: str, path: Path) -> None:
        """Write a complete content to a file, which a crash leaves either as it was or complete."""
        with replacing(path) as partial, partial.open("wb") as file:
            for chunk in self._stream(sha256):
                file.write(chunk)

    def _add(self, part: _PartFile) -> None:
        manifest = part.manifest
        self._exports.setdefault(manifest.export, {})[manifest.part] = manifest.parts
        for sha256, size in manifest.sizes.items():
            if self._sizes.setdefault(sha256, size) != size:
                raise part.damaged(f"two sizes of {sha256[:8]}")
        for member in manifest.members:
            known = self._pieces.setdefault(member.sha256, {}).get(member.offset)
            if known is None or known[1].size < member.size:
                self._pieces[member.sha256][member.offset] = (part, member)
        for item in manifest.items:
            key = item.model_dump_json()
            if key not in self._exports_of:
                self.items.append(item)
            self._exports_of.setdefault(key, set()).add(manifest.export)

    def _stream(self, sha256: str) -> Iterator[bytes]:
        """Yield a content from its pieces; it ends early if one is missing."""
        offset, size = 0, self._sizes[sha256]
        pieces = self._pieces[sha256]
        digest = hashlib.sha256()
        part = None
        while offset in pieces and (offset < size or size == 0):
            part, member = pieces[offset]
            for chunk in part.read(member):
                digest.update(chunk)
                yield chunk
            offset += member.size
            if size == 0:
                break
        if offset == size and part is not None and digest.hexdigest() != sha256:
            raise part.damaged(f"the content of {sha256[:8]} has another digest")

    def _verify(self, sha256: str) -> bool:
        """Return False if pieces of a content are missing, and check the digest of a complete one."""
        return sum(len(chunk) for chunk in self._stream(sha256)) == self._sizes[sha256]


class _PartFile:
    """One open file of an export."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, manifest: Manifest) -> None:
        self.path, self.manifest, self._archive = path, manifest, archive

    def damaged(self, reason: str) -> UserError:
        return UserError(f"{shown(self.path)} is damaged ({reason}); copy it again. Nothing was imported")

    def read(self, member: Member) -> Iterator[bytes]:
        """Yield a member in chunks.

        Raises:
            UserError: it is damaged or has another size than the manifest states.
        """
        left = member.size
        try:
            with self._archive.open(member.name) as file:
                while chunk := file.read(CHUNK):
                    left -= len(chunk)
                    if left < 0:
                        break
                    yield chunk
        except (*DAMAGES, OSError) as error:
            raise self.damaged(first_line(error)) from None
        if left:
            raise self.damaged(f"{shown(member.name)} has another size than its manifest states")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_PartFile]:
    """Open a file of an export and check its manifest."""
    check_file(path)
    head = b""
    with contextlib.ExitStack() as stack:
        try:
            file: IO[bytes] = stack.enter_context(path.open("rb"))
            head = file.read(4)
            archive = stack.enter_context(zipfile.ZipFile(file))
            infos = archive.infolist()
        except (*DAMAGES, OSError) as error:
            if head == b"PK\x03\x04":
                raise UserError(
                    f"{shown(path)} is damaged or incomplete ({first_line(error)}); copy it again. Nothing was imported"
                ) from None
            raise _foreign(path, "it is empty" if not head else "it is no zip archive") from None
        yield _PartFile(path, archive, _read_manifest(path, archive, infos))


def _read_manifest(path: Path, archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo]) -> Manifest:
    names = [info.filename for info in infos]
    if MANIFEST not in names:
        raise _foreign(path, f"the archive has no {MANIFEST}")
    size = path.stat().st_size
    if sum(info.file_size for info in infos) > MAX_RATIO * size + 2**20:
        raise UserError(f"{shown(path)} is refused: its contents are more than {MAX_RATIO} times as large as the file")
    if archive.getinfo(MANIFEST).file_size > MAX_MANIFEST_BYTES:
        raise UserError(f"{shown(path)} is refused: its {MANIFEST} has more than {MAX_MANIFEST_BYTES} bytes")
    try:
        data = archive.read(MANIFEST)
    except (*DAMAGES, OSError) as error:
        raise UserError(
            f"{shown(path)} is damaged ({first_line(error)}); copy it again. Nothing was imported"
        ) from None
    try:
        content = json.loads(data)
        found = content["format"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _foreign(path, f"its {MANIFEST} is not that of an export") from None
    if isinstance(found, int) and found != FORMAT:
        age = "a newer" if found > FORMAT else "an older"
        version = content.get("noisybench")
        raise UserError(
            f"{shown(path)} has format {found} of {age} noisybench ({shown(str(version))}), but this version reads "
            f"format {FORMAT}; use the same version on both machines"
        )
    try:
        manifest = Manifest.model_validate_json(data)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        location = ".".join(map(str, first["loc"]))
        raise UserError(f"{shown(path)} is refused: {MANIFEST}: {shown(location)}: {first['msg']}") from None
    _check_members(path, infos, manifest)
    return manifest


def _check_members(path: Path, infos: list[zipfile.ZipInfo], manifest: Manifest) -> None:
    """Refuse links, members that the manifest does not list, and members that it lists twice or with other sizes."""
    listed = {member.name: member for member in manifest.members}
    problem = None
    if len(listed) != len(manifest.members) or len({info.filename for info in infos}) != len(infos):
        problem = "a member appears twice"
    elif manifest.part > manifest.parts:
        problem = f"part {manifest.part} of {manifest.parts}"
    for info in infos:
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            problem = f"{info.filename} is no regular file"
        elif info.filename == MANIFEST:
            continue
        elif info.filename not in listed:
            problem = f"{info.filename} is not in the manifest"
        elif info.file_size != listed[info.filename].size:
            problem = f"{info.filename} has another size than the manifest states"
    names = {info.filename for info in infos}
    for member in manifest.members:
        size = manifest.sizes.get(member.sha256, -1)
        if member.name not in names:
            problem = f"{member.name} is missing"
        elif member.offset + member.size > size or (member.size == 0 and size != 0):
            problem = f"{member.name} does not fit its content"
    if problem is not None:
        raise UserError(f"{shown(path)} is refused: {shown(problem)}. Nothing was imported")


def _foreign(path: Path, reason: str) -> UserError:
    return UserError(f"{shown(path)} is no file of `noisybench runs export` ({reason})")
