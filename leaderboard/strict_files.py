"""Reading of files that other people have written: plain files, strict JSON and archives of plain arrays, within fixed limits.

Nothing is unpickled, evaluated or executed. Reading one file takes at most `MAX_MEMORY_BYTES`, whatever it contains.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import re
import stat
import unicodedata
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.errors import UserError
from noisybench.utils.text import printable

MAX_JSON_BYTES = 8 * 2**20
"""Most bytes of a JSON file."""
MAX_ARRAY_BYTES = 64 * 2**20
"""Most bytes of an archive of arrays, packed as well as unpacked."""
MAX_DEPTH = 32
"""Most nested lists and objects of a JSON file."""
MAX_INTEGER = 2**53
"""Largest absolute integer: JSON readers of other languages have no larger ones."""
MAX_TEXT = 10_000
"""Most characters of one text."""
MAX_MEMORY_BYTES = 2**30
"""Memory that reading one file may take: empty lists take about 30 times their JSON, and arrays three times their bytes."""


def read_plain_file(path: Path, limit: int) -> bytes:
    """Return the content of a regular file, without following a link or waiting for a pipe.

    Args:
        path: file.
        limit: most bytes.

    Raises:
        UserError: the path is a link, pipe, device or folder, is missing, or is larger than the limit.
    """
    try:
        # Opening a pipe without a writer would wait forever without `O_NONBLOCK`.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        if path.is_symlink():
            raise UserError(f"{printable(str(path))}: a link; a submission may only contain plain files") from None
        raise UserError(
            f"{printable(str(path))}: cannot be read ({getattr(error, 'strerror', None) or error})"
        ) from None
    status = os.fstat(descriptor)
    # Before `fdopen`, which fails for the descriptor of a folder.
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise UserError(f"{printable(str(path))}: not a plain file")
    with os.fdopen(descriptor, "rb") as file:
        # One byte more than allowed, because the file may grow after its size was asked for.
        data = b"" if status.st_size > limit else file.read(limit + 1)
    if status.st_size > limit or len(data) > limit:
        raise UserError(f"{printable(str(path))}: larger than the limit of {limit} bytes")
    return data


def parse_json(data: bytes, path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        UserError: it is not UTF-8, has a name twice, infinity or NaN, is nested too deeply, or has integers or texts beyond
            the limits, or characters that control a terminal.

    Example:
        >>> parse_json(b'{"a": 1, "a": 2}', Path("x.json"))
        Traceback (most recent call last):
        noisybench.errors.UserError: x.json: not plain JSON (the name 'a' occurs twice)
    """
    try:
        content = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
        _check_values(content)
    # The parser recurses as well, and fails on nesting far beyond the limit.
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{printable(str(path))}: not plain JSON ({printable(str(error).splitlines()[0][:200])})"
        ) from None
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {ascii(twice)[:80]} occurs twice")
    return content


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name}; numbers must not be infinite or NaN")


def _check_values(value: Any, depth: int = 0) -> None:
    if isinstance(value, dict | list):
        if depth == MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")
        if isinstance(value, dict):
            for name in value:
                _check_text(name)
        for item in value.values() if isinstance(value, dict) else value:
            _check_values(item, depth + 1)
    elif isinstance(value, str):
        _check_text(value)
    elif isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise ValueError("an integer beyond 2**53")
    elif isinstance(value, float) and not math.isfinite(value):  # such as 1e999
        raise ValueError("an infinite number")


def _check_text(text: str) -> None:
    if len(text) > MAX_TEXT:
        raise ValueError(f"a text of more than {MAX_TEXT} characters")
    if text.isascii() and text.isprintable():
        return
    for character in text:
        # Control and format characters can rewrite a terminal or reverse a line; surrogates cannot be written at all.
        if character not in "\n\t" and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp"):
            raise ValueError(f"the character {character!a}, which is not plain text")


def same_json(first: Any, second: Any) -> bool:
    """Return whether two JSON values are equal; unlike in Python, true is not 1.

    Example:
        >>> same_json({"a": [1.0]}, {"a": [1]}), same_json(True, 1)
        (True, False)
    """
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same_json(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(same_json, first, second))
    return isinstance(first, bool) == isinstance(second, bool) and bool(first == second)


def read_arrays(data: bytes, expected: Mapping[str, tuple[str, int]], path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an `.npz` archive, which must be exactly those expected.

    Args:
        data: content of the archive.
        expected: type, such as ``"i8"``, and number of dimensions by name.
        path: location of the archive, for messages.

    Raises:
        UserError: the archive is damaged, has other members, or unpacks to more than `MAX_ARRAY_BYTES`; an array has another
            type or number of dimensions.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            _check_members(members, [f"{name}.npy" for name in expected])
            # One by one, so that one unpacked member is in memory beside its array.
            return {name: _parse_array(archive.read(f"{name}.npy"), name, *kind) for name, kind in expected.items()}
    except UserError as error:
        raise UserError(*(f"{printable(str(path))}: {problem}" for problem in error.problems)) from None
    # zipfile raises these for damaged archives, and for compressions and encryptions that it does not know.
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{printable(str(path))}: cannot be read ({printable(str(error)[:200])})") from None
    except Exception as error:  # zlib.error and struct.error are no common base
        raise UserError(f"{printable(str(path))}: cannot be read ({type(error).__name__})") from None


def _check_members(members: list[zipfile.ZipInfo], expected: list[str]) -> None:
    names = [member.filename for member in members]
    if sorted(names) != sorted(expected):
        shown = ", ".join(ascii(name)[:40] for name in names[:20])
        raise UserError(f"expected the arrays {', '.join(expected)}, but got {shown or 'none'}")
    size = sum(member.file_size for member in members)
    # The sizes of the directory bind `zipfile`, which unpacks no more than they say.
    if size > MAX_ARRAY_BYTES:
        raise UserError(f"{size} bytes unpacked exceed the limit of {MAX_ARRAY_BYTES}")
    if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
        raise UserError("compressed by another method than deflate")
    if any(member.flag_bits & 1 for member in members):
        raise UserError("encrypted")
    ordered = sorted(members, key=lambda member: member.header_offset)
    # Entries that share bytes make an archive unpack to far more than its size.
    for first, second in itertools.pairwise(ordered):
        if first.header_offset + 30 + first.compress_size > second.header_offset:
            raise UserError("its entries overlap")


_HEADER = re.compile(
    rb"\{'descr': '(?P<type>[<>|][a-z]\d{1,2})', 'fortran_order': False, 'shape': \((?P<shape>[\d, ]{0,80})\), \} *\n"
)
"""The header of an array as NumPy writes it. NumPy itself would evaluate it as an expression of Python."""


def _parse_array(data: bytes, name: str, kind: str, dimensions: int) -> NDArray[Any]:
    magic, length = data[:8], int.from_bytes(data[8:10], "little")
    header = _HEADER.fullmatch(data[10 : 10 + length])
    if magic != b"\x93NUMPY\x01\x00" or header is None:
        raise UserError(f"{name}: not a plain array of numbers as NumPy writes it")
    shape = tuple(int(size) for size in header["shape"].decode().replace(" ", "").split(",") if size)
    found = header["type"].decode()
    # The first character is the byte order, which may differ between machines.
    if found[1:] != kind or len(shape) != dimensions:
        raise UserError(
            f"{name} must be {dimensions}-dimensional of type {kind}, but is {len(shape)}-dimensional of type {found[1:]}"
        )
    dtype, body = np.dtype(found), data[10 + length :]
    if math.prod(shape) * dtype.itemsize != len(body):
        raise UserError(f"{name}: {len(body)} bytes of data do not make an array of shape {shape}")
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an archive that `read_arrays` reads."""
    # Arrays in the order of Fortran would get another header.
    contiguous: dict[str, Any] = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    np.savez_compressed(path, **contiguous)
