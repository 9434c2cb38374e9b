"""Dictionaries of arrays in `.npy` files, which NumPy pickles: read without running anything in them.

The pickle is interpreted by stand-ins for the few functions that NumPy writes into it. They build no array and no type of
NumPy from its content; only lengths and types that were checked become arrays afterwards.
"""

from __future__ import annotations

import collections
import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from noisybench.errors import UserError, show
from noisybench.utils.files import first_line
from noisybench.utils.places import check_file, shown

MAGIC = b"\x93NUMPY"
"""First bytes of a `.npy` file."""

_PLAIN_TYPE = re.compile(r"[biufSU][0-9]{1,6}")
_OBJECTS = re.compile(r"O[0-9]?")


def read_pickled_arrays(path: Path, location: str) -> dict[str, NDArray[Any]]:
    """Read a `.npy` file that holds one dictionary of arrays or lists of numbers, as `numpy.save` writes it.

    Args:
        path: the file.
        location: name of the parameter that holds the path, for messages.

    Raises:
        UserError: the file is missing or damaged, or contains anything else.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(Path(folder) / "labels.npy", {"clean": np.array([0, 1])}, allow_pickle=True)
        ...     read_pickled_arrays(Path(folder) / "labels.npy", "noise.path")
        {'clean': array([0, 1])}
    """
    check_file(path, location)
    try:
        with path.open("rb") as file:
            _skip_header(file)
            content = _ArrayUnpickler(file).load()
        while isinstance(content, _Array):
            (content,) = content.items()
        if not isinstance(content, dict):
            raise ValueError("its content is no dictionary")
        return {str(name): _plain(name, value) for name, value in content.items()}
    except Exception as error:  # unpicklers raise anything on damaged files
        raise UserError(
            f"{location}: {shown(path)}: damaged or not a dictionary of plain arrays ({first_line(error)}); download it again"
        ) from None


def _skip_header(file: IO[bytes]) -> None:
    readers: dict[tuple[int, int], Callable[[Any], Any]] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    _, _, dtype = readers[np.lib.format.read_magic(file)](file)
    if dtype != np.dtype(object):
        raise ValueError(f"it is one array of {dtype}")


def _plain(name: object, value: object) -> NDArray[Any]:
    if isinstance(value, list):
        numbers = [item.array()[()] if isinstance(item, _Array) else item for item in value]
        if all(isinstance(number, int | float | np.integer | np.floating) for number in numbers):
            return np.array(numbers)
    if not isinstance(value, _Array):
        raise ValueError(f"its entry {show(name)} is no array")
    return value.array()


class _Type:
    """Stand-in for a type of NumPy."""

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order, described, names, fields = state[1:5]
        if described is not None or names is not None or fields is not None:
            raise pickle.UnpicklingError("structured types are not supported")
        self.order = order

    def dtype(self) -> np.dtype[Any]:
        """Return the type of numbers or text; never of objects."""
        if (
            not isinstance(self.code, str)
            or not _PLAIN_TYPE.fullmatch(self.code)
            or self.order not in ("<", ">", "|", "=")
        ):
            raise ValueError(f"it has an array of the type {show(self.code)}")
        return np.dtype(self.order + self.code)


class _Array:
    """Stand-in for an array: its shape, type and content as they were pickled."""

    def __init__(self) -> None:
        self.shape: Any = ()
        self.type: Any = None
        self.fortran, self.content = False, b""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        # Old pickles have no version in front.
        self.shape, self.type, self.fortran, self.content = state[-4:]

    def items(self) -> list[Any]:
        """Return the objects of an array of objects."""
        if not isinstance(self.type, _Type) or not _OBJECTS.fullmatch(str(self.type.code)):
            raise ValueError("its content is no dictionary")
        return list(self.content)

    def array(self) -> NDArray[Any]:
        """Return the array."""
        if not isinstance(self.type, _Type) or not isinstance(self.content, bytes | bytearray):
            raise ValueError("it has an array of objects")
        dtype = self.type.dtype()
        if math.prod(self.shape) * dtype.itemsize != len(self.content):
            raise ValueError(
                f"it has an array whose shape {show(self.shape)} does not fit its {len(self.content)} bytes"
            )
        flat = np.frombuffer(bytes(self.content), dtype)
        return flat.reshape(self.shape, order="F" if self.fortran else "C").copy()


class _StandIn:
    """Callable without attributes, which a pickle could otherwise change."""

    __slots__ = ()


class _Reconstruct(_StandIn):
    __slots__ = ()

    def __call__(self, kind: object, shape: object, code: object) -> _Array:
        return _Array()


class _FromBuffer(_StandIn):
    __slots__ = ()

    def __call__(self, buffer: object, kind: object, shape: object, order: object) -> _Array:
        array = _Array()
        array.__setstate__((shape, kind, order == "F", buffer))
        return array


class _Scalar(_StandIn):
    __slots__ = ()

    def __call__(self, kind: object, content: object) -> _Array:
        array = _Array()
        array.__setstate__(((), kind, False, content))
        return array


class _MakeType(_StandIn):
    __slots__ = ()

    def __call__(self, code: str, *options: object) -> _Type:
        return _Type(code)


class _Encode(_StandIn):
    __slots__ = ()

    def __call__(self, text: str, encoding: str) -> bytes:
        # Python 2 wrote bytes as text.
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"the encoding {show(encoding)} is not allowed")
        return str.encode(text, "latin1")


class _Class(_StandIn):
    """Stand-in for the name of the class of arrays, which is only passed on."""

    __slots__ = ()


class _OrderedDict(_StandIn):
    __slots__ = ()

    def __call__(self) -> dict[Any, Any]:
        return collections.OrderedDict()


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler that finds nothing but the stand-ins."""

    def find_class(self, module: str, name: str) -> Any:
        # NumPy 2 renamed `numpy.core`.
        known: dict[tuple[str, str], object] = {
            ("numpy.core.multiarray", "_reconstruct"): _Reconstruct(),
            ("numpy.core.multiarray", "scalar"): _Scalar(),
            ("numpy.core.numeric", "_frombuffer"): _FromBuffer(),
            ("numpy", "ndarray"): _Class(),
            ("numpy", "dtype"): _MakeType(),
            ("_codecs", "encode"): _Encode(),
            ("collections", "OrderedDict"): _OrderedDict(),
        }
        module = module.replace("numpy._core", "numpy.core")
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not allowed")
        return known[module, name]
