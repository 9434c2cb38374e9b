"""Labels of lists, pandas and pyarrow as plain NumPy arrays with a mask of the missing ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.errors import UserError, show

_KINDS: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("truth values", (bool, np.bool_)),
    ("integers", (int, np.integer)),
    ("numbers", (float, np.floating)),
    ("text", (str,)),
    ("bytes", (bytes,)),
    ("lists", (list, tuple, np.ndarray)),
)
"""Kinds of Python objects by name; the first that fits counts."""


def plain_labels(values: Any, location: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return labels as an array of text, bytes, numbers or truth values, and a mask of the missing ones.

    Args:
        values: NumPy array, list, or column of pandas or pyarrow.
        location: name of the labels for messages.

    Returns:
        (N,) or (N, C) array in which missing labels have any value, and (N,) mask.

    Raises:
        UserError: the labels are of several kinds, or of one that cannot be a label.

    Example:
        >>> plain_labels([3, None, 5], "labels")
        (array([3, 0, 5]), array([False,  True, False]))
    """
    module = type(values).__module__.partition(".")[0]
    if module == "pyarrow":
        return _from_arrow(values, location)
    if module == "pandas":
        missing = np.asarray(values.isna(), dtype=bool)
        # Nullable columns of pandas would become floating-point numbers, which hold integers only up to 2**53.
        plain = values.to_numpy(dtype=object) if missing.any() or values.dtype.kind == "O" else values.to_numpy()
        return _from_objects(plain, missing, location) if plain.dtype == object else (plain, missing)
    array = values if isinstance(values, np.ndarray) else _to_array(values)
    if array.dtype.names is not None:
        raise UserError(
            f"{location} has records with the fields {', '.join(array.dtype.names)}; save the field with the labels as an "
            "array of its own"
        )
    if array.dtype != object:
        return array, np.zeros(array.shape[:1], dtype=bool)
    if array.ndim != 1:
        array = array.reshape(len(array), -1)
        if array.shape[1] != 1:
            raise UserError(f"{location} must be one label for each example, but has the shape {array.shape}")
        array = array[:, 0]
    return _from_objects(array, np.array([is_missing(value) for value in array], dtype=bool), location)


def _to_array(values: Any) -> NDArray[Any]:
    objects = np.empty(len(values), dtype=object)
    objects[:] = list(values)
    return objects


def is_missing(value: Any) -> bool:
    """Return True for None, NaN, and the missing values of pandas.

    Example:
        >>> [is_missing(value) for value in ("a", 0, None, float("nan"))]
        [False, False, True, True]
    """
    # NaN and the missing values of pandas differ from themselves, or have no truth value.
    if value is None or isinstance(value, float | np.floating):
        return value is None or bool(np.isnan(value))
    return type(value).__name__ in ("NAType", "NaTType")


def _from_objects(
    objects: NDArray[Any], missing: NDArray[np.bool_], location: str
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return Python objects as an array of their one kind."""
    present = objects[~missing]
    kinds: dict[str, int] = {}
    for row, value in zip(np.flatnonzero(~missing).tolist(), present, strict=True):
        kind = next((name for name, types in _KINDS if isinstance(value, types)), type(value).__name__)
        kinds.setdefault(kind, row)
    if set(kinds) == {"integers", "numbers"}:
        kinds = {"numbers": 0}
    if len(kinds) > 1:
        examples = " and ".join(f"{kind} (entry {row}: {show(objects[row])})" for kind, row in list(kinds.items())[:2])
        raise UserError(f"{location} has {examples}; write all labels in the same way")
    kind = next(iter(kinds), "text")
    if kind == "lists":
        return _from_lists(present, missing, location)
    if kind not in dict(_KINDS):
        raise UserError(f"{location} must be class names or whole numbers, but has values of the type {kind}")
    if kind in ("text", "bytes"):
        return np.where(missing, "" if kind == "text" else b"", objects).astype("U" if kind == "text" else "S"), missing
    dtype = {"truth values": bool, "integers": np.int64, "numbers": np.float64}[kind]
    try:
        return np.where(missing, 0, objects).astype(dtype), missing
    except OverflowError:
        raise UserError(f"{location} has integers of more than 64 bits; write the names of the classes") from None


def _from_lists(
    lists: NDArray[Any], missing: NDArray[np.bool_], location: str
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    lengths = {len(each) for each in lists}
    if len(lengths) > 1:
        raise UserError(
            f"{location} has lists of {min(lengths)} to {max(lengths)} labels: several labels for one example (multi-label) "
            "are not supported; choose one class for each example"
        )
    rows = np.array([list(each) for each in lists])
    if rows.dtype == object or rows.ndim != 2:
        raise UserError(f"{location} has lists whose entries are not plain labels; choose one class for each example")
    array = np.zeros((len(missing), rows.shape[1]), dtype=rows.dtype)
    array[~missing] = rows
    return array, missing


def _from_arrow(values: Any, location: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    import pyarrow
    import pyarrow.types as types

    chunks = values.chunks if isinstance(values, pyarrow.ChunkedArray) else [values]
    if types.is_dictionary(values.type):
        # Chunk by chunk, because each can number the same values in another order.
        chunks = [chunk.dictionary_decode() for chunk in chunks]
    column = pyarrow.concat_arrays(chunks) if chunks else pyarrow.array([], values.type)
    kind = column.type
    # Most columns are whole numbers without gaps. Other conversions to numpy import pandas, which takes half a second.
    if types.is_integer(kind) and column.null_count == 0:
        return np.from_dlpack(column), np.zeros(len(column), dtype=bool)
    missing = np.asarray(column.is_null(), dtype=bool)
    if types.is_null(kind):
        return np.full(len(missing), ""), missing
    if types.is_integer(kind) or types.is_floating(kind):
        return column.fill_null(0).to_numpy(zero_copy_only=False), missing
    if types.is_boolean(kind):
        return column.fill_null(False).to_numpy(zero_copy_only=False), missing
    text = (types.is_string, types.is_large_string, types.is_string_view)
    binary = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    if any(check(kind) for check in (*text, *binary, *lists)):
        return _from_objects(_to_array(column.to_pylist()), missing, location)
    raise UserError(
        f"{location} must be class names or whole numbers, but has the type {kind}; convert it, or name the column that "
        "contains the labels"
    )
