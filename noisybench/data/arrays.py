"""Read NumPy arrays from files of any origin, and exact integers from arrays."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from noisybench.errors import UserError
from noisybench.utils.files import first_line
from noisybench.utils.places import check_file, shown

MAX_CLASSES = 10_000
"""Largest number of classes: label sets and evaluations hold tables of classes x classes."""

MAX_EXACT = 2**53
"""Largest whole number up to which double precision is exact."""


def read_archive(path: Path, location: str = "") -> dict[str, NDArray[Any]]:
    """Read all arrays of a `.npz` file by name.

    Objects are refused, because unpickling can run code. Sizes are compared with those of the file before any memory is
    allocated.

    Args:
        path: the file.
        location: name of the parameter that holds the path, for messages.

    Raises:
        UserError: the file is missing, damaged, or has a member that is not a plain array.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(Path(folder) / "images.npz", labels=np.array([0, 1]))
        ...     read_archive(Path(folder) / "images.npz", "dataset.path")["labels"]
        array([0, 1])
    """
    check_file(path, location)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            not_arrays = [info.filename for info in members if not info.filename.endswith(".npy")]
            if not_arrays:
                raise ValueError(f"its member {not_arrays[0]!r} is not an array")
            _check_memory(sum(info.file_size for info in members))
            return {info.filename.removesuffix(".npy"): _read_member(archive, info) for info in members}
    except Exception as error:  # parsers of archives and headers raise anything on damaged files
        raise _damaged(path, location, "a .npz archive of plain arrays", error) from None


def read_array(path: Path, location: str) -> NDArray[Any]:
    """Read the array of a `.npy` file; objects are refused.

    Raises:
        UserError: the file is missing, damaged, or not a plain array.
    """
    check_file(path, location)
    try:
        size = path.stat().st_size
        _check_memory(size)
        with path.open("rb") as file:
            _check_header(file, size, path.name)
            file.seek(0)
            return _read(file)
    except Exception as error:  # as above
        raise _damaged(path, location, "a .npy file of a plain array", error) from None


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    name = info.filename
    with archive.open(info) as stream:
        _check_header(stream, info.file_size, name)
    with archive.open(info) as stream:
        return _read(stream)


def _read(stream: IO[bytes]) -> NDArray[Any]:
    array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _check_header(stream: IO[bytes], size: int, name: str) -> None:
    """Refuse an array of objects, or one whose header claims another size than the file has.

    Raises:
        ValueError: with the reason; other exceptions if the header is damaged.
    """
    version = np.lib.format.read_magic(stream)
    readers: dict[tuple[int, int], Any] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"{name} has the unknown format {version[0]}.{version[1]}")
    shape, _, dtype = readers[version](stream)
    if dtype.hasobject:
        raise ValueError(f"{name} contains Python objects, which could run code; convert it to numbers or text")
    claimed, actual = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if claimed != actual:
        raise ValueError(f"{name} claims {claimed} bytes of data, but has {actual}")


def _check_memory(num_bytes: int) -> None:
    import psutil

    free = psutil.virtual_memory().available
    if num_bytes > free:
        raise ValueError(f"it needs {num_bytes / 2**30:.1f} GiB of memory, but {free / 2**30:.1f} GiB are free")


def _damaged(path: Path, location: str, expected: str, error: Exception) -> UserError:
    prefix = f"{location}: " if location else ""
    return UserError(f"{prefix}{shown(path)}: damaged or not {expected} ({first_line(error)}); export it again")


def exact_integers(values: NDArray[Any], location: str) -> NDArray[np.int64]:
    """Return values as int64 if each is a whole number; whole floating-point numbers are accepted.

    Args:
        values: array of any shape and type.
        location: name of the values for messages, such as ``"dataset.path: images.npz: labels"``.

    Raises:
        UserError: the values are text, truth values or objects, or one is a fraction, not finite or too large.

    Examples:
        >>> exact_integers(np.array([0.0, 2.0]), "labels")
        array([0, 2])
        >>> exact_integers(np.array([0.0, 0.7]), "labels")
        Traceback (most recent call last):
        noisybench.errors.UserError: labels must be integers, but entry 1 is 0.7
    """
    if values.dtype.kind not in "iuf":
        kinds = {"U": "text", "S": "text", "b": "truth values", "O": "objects", "c": "complex numbers", "M": "dates"}
        raise UserError(f"{location} must be integers, but are {kinds.get(values.dtype.kind, str(values.dtype))}")
    if values.dtype.kind == "f":
        # In double precision, because half precision cannot hold the limit.
        invalid = ~np.isfinite(values) | (np.abs(np.nan_to_num(values).astype(np.float64)) > MAX_EXACT)
        invalid |= np.where(invalid, 0, values) % 1 != 0
    else:
        invalid = values > np.iinfo(np.int64).max if values.dtype == np.uint64 else np.zeros(values.shape, dtype=bool)
    if invalid.any():
        entry = int(np.flatnonzero(invalid)[0])
        raise UserError(f"{location} must be integers, but entry {entry} is {values.reshape(-1)[entry]}")
    return values.astype(np.int64)


def class_indices(values: NDArray[Any], location: str) -> NDArray[np.int64]:
    """Return (N,) class indices from an array of shape (N,) or (N, 1).

    Args:
        values: the array.
        location: name of the values for messages.

    Raises:
        UserError: the shape differs, or a value is not an integer from 0 to `MAX_CLASSES` - 1.

    Examples:
        >>> class_indices(np.array([[0], [2]]), "labels")
        array([0, 2])
        >>> class_indices(np.array([0, 10**10]), "labels")
        Traceback (most recent call last):
        noisybench.errors.UserError: labels must be class indices from 0 to 9999, but entry 1 is 10000000000
    """
    if values.ndim not in (1, 2) or values.shape[1:] not in ((), (1,)):
        raise UserError(f"{location} must have the shape (N,), one label for each example, but has {values.shape}")
    labels = exact_integers(values.reshape(-1), location)
    invalid = np.flatnonzero((labels < 0) | (labels >= MAX_CLASSES))
    if len(invalid):
        raise UserError(
            f"{location} must be class indices from 0 to {MAX_CLASSES - 1}, but entry {invalid[0]} is {labels[invalid[0]]}"
        )
    return labels
