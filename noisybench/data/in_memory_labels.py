"""Labels that people hold in memory, as class indices or masks, and back in the form in which they came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.data.arrays import MAX_CLASSES, exact_integers
from noisybench.data.containers import Restore, as_array, is_picture, library_of, open_entries, open_tensor
from noisybench.data.labels.class_labels import IntegerLabels, match_labels
from noisybench.data.labels.class_names import read_class_names
from noisybench.data.labels.columns import LabelColumn, read_label_column
from noisybench.data.targets import IGNORED, Targets
from noisybench.errors import UserError, show
from noisybench.utils.text import printable

BINARY = ("-1", "1")
"""Labels of two classes in which -1 does not stand for a missing label."""


@dataclass(frozen=True)
class InMemoryLabels:
    """Labels as the harness uses them.

    Attributes:
        targets: (N,) int64 class indices or (N, H, W) uint8 masks.
        class_names: names of the classes in the order of their indices.
        classes: (C,) classes as they are written in the given labels, such as ``["cat", "dog"]`` or ``[1, 2]``.
        restore: returns other targets of this shape in the form, type, device and index of the given labels.

    Example:
        >>> labels = read_labels(["dog", "cat", "dog"])
        >>> labels.targets, labels.class_names, labels.restore(np.array([0, 0, 1]))
        (array([1, 0, 1]), ('cat', 'dog'), ['cat', 'cat', 'dog'])
    """

    targets: Targets
    class_names: tuple[str, ...]
    classes: NDArray[Any]
    restore: Restore

    def __len__(self) -> int:
        return len(self.targets)


def read_labels(
    labels: Any,
    class_names: Sequence[Any] | int | None = None,
    location: str = "y",
    integer_labels: IntegerLabels = "auto",
) -> InMemoryLabels:
    """Read labels from a list, a NumPy array, a torch tensor, or a column of pandas, pyarrow or Hugging Face.

    Args:
        labels: (N,) or (N, 1) classes as integers, whole floating-point numbers, truth values or text; (N, C) one-hot rows;
            or (N, H, W) or (N, 1, H, W) masks of integers, in which 255 stands for no label.
        class_names: names of all classes in the order of their indices, or their number, if some may not occur. By
            default each different label is a class, numbers in the order of numbers and text in that of text; of masks, the
            numbers from 0 to the largest one.
        location: name of the labels for messages.
        integer_labels: meaning of integers beside ``class_names``: names of classes, indices, or the only possible one.

    Raises:
        UserError: a label is missing, a fraction, or none of the classes; there is only one class; or the shape or type is
            none of these.

    Examples:
        >>> read_labels(np.array([3.0, 1.0])).restore(np.array([0, 1]))
        array([1., 3.])
        >>> read_labels([0, 1, None])
        Traceback (most recent call last):
        noisybench.errors.UserError: y: entry 2 has no label; remove the example, or give it a label
    """
    if isinstance(labels, str | bytes | Mapping | Set) or not hasattr(labels, "__len__"):
        raise UserError(
            f"{location} must be one label for each example, but is {show(labels)}; pass a list or an array"
        )
    plain, restore = to_plain(labels, location)
    names = _declared_names(class_names)
    if isinstance(plain, np.ndarray) and plain.ndim > 2:
        return _read_masks(plain, names, location, restore)
    _check_numbers(plain, location)
    column = read_label_column(plain, location)
    missing = np.flatnonzero(column.codes < 0)
    if len(missing):
        more = f" ({len(missing)} such entries)" if len(missing) > 1 else ""
        raise UserError(f"{location}: entry {missing[0]} has no label{more}; remove the example, or give it a label")
    if not len(column.codes):
        raise UserError(f"{location} has no labels; pass at least one example of two classes")
    if column.width is not None:
        return _one_hot(column, plain, names, restore)
    targets, names, known = _match(column, names, integer_labels)
    _check_encodable(names, location)
    classes = _written_classes(column, plain, targets, names, known)
    shape = np.shape(plain)

    def back(observed: Targets) -> Any:
        values = classes[observed]
        return restore(values if len(shape) < 2 else values.reshape(len(observed), 1))

    return InMemoryLabels(targets, names, classes, back)


def _check_numbers(plain: Any, location: str) -> None:
    """Refuse missing labels and probabilities, for which files have parameters that arrays do not have."""
    if not isinstance(plain, np.ndarray) or plain.dtype.kind != "f" or not plain.size:
        return
    missing = np.flatnonzero(np.isnan(plain.reshape(len(plain), -1)).any(axis=1))
    if len(missing):
        more = f" ({len(missing)} such entries)" if len(missing) > 1 else ""
        raise UserError(f"{location}: entry {missing[0]} is nan{more}; remove the example, or give it a label")
    if plain.ndim == 2 and plain.shape[1] > 1 and (plain % 1).any():
        raise UserError(
            f"{location} are probabilities of {plain.shape[1]} classes; pass the most probable class of each example, such as "
            f"{location}.argmax(1)"
        )


def _declared_names(class_names: Sequence[Any] | int | None) -> tuple[str, ...] | None:
    """Return the class names that the user gives, or None."""
    if class_names is None:
        return None
    if isinstance(class_names, int | np.integer) and not isinstance(class_names, bool):
        names = tuple(str(number) for number in range(min(int(class_names), MAX_CLASSES + 1)))
    elif isinstance(class_names, str | bytes | Mapping | Set) or not hasattr(class_names, "__len__"):
        raise UserError(f"class_names: must be a list of names or the number of classes, but got {show(class_names)}")
    else:
        given = as_array(class_names, "class_names")
        is_text = all(isinstance(name, str) for name in given.flat)
        names = read_class_names(given.astype(str) if is_text else given, "class_names")
    if not 2 <= len(names) <= MAX_CLASSES:
        raise UserError(f"class_names: must be 2 to {MAX_CLASSES} classes, but got {show(class_names)}")
    return names


def _check_encodable(names: Sequence[str], location: str) -> None:
    """Refuse class names with halves of characters, which come from bytes that are no text and cannot be written to files."""
    for name in names:
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise UserError(
                f"{location}: the class {show(name)} is not valid text; rename it, or decode it in its encoding"
            )


def _match(
    column: LabelColumn, names: tuple[str, ...] | None, integer_labels: IntegerLabels
) -> tuple[Targets, tuple[str, ...], bool]:
    """Return class indices and class names, and whether the labels are the names of the classes."""
    if column.kind == "integers" and "-1" in column.used and column.used != BINARY and "-1" not in (names or ()):
        raise UserError(
            f"{column.location}: entry {column.first_row('-1')} is -1, which often stands for no label; remove these "
            "examples, or list all classes in class_names if -1 is one"
        )
    if names is not None:
        by_name = integer_labels == "names" or (integer_labels == "auto" and set(column.used) <= set(names))
        if integer_labels == "auto" and column.kind == "integers" and column.width is None and by_name:
            _refuse_two_meanings(column, names)
        targets, _ = match_labels(column, names, "names" if by_name else "indices", declared=True)
        return targets, names, by_name
    used = column.used
    if len(used) < 2:
        raise UserError(
            f"{column.location} has the one class `{printable(used[0])}`, but at least two are needed; add examples of "
            "another, or list all classes in class_names"
        )
    codes = np.full(len(column.values), -1)
    codes[[column.values.index(value) for value in used]] = np.arange(len(used))
    return codes[column.codes].astype(np.int64), used, True


def _refuse_two_meanings(column: LabelColumn, names: tuple[str, ...]) -> None:
    """Refuse integers that are the name of one class and the index of another."""
    indices = [int(value) for value in column.used]
    if not all(0 <= index < len(names) for index in indices):
        return
    for value, index in zip(column.used, indices, strict=True):
        if names[index] != value:
            raise UserError(
                f"{column.location}: the label {value} is the name of class {names.index(value)} and the index of class "
                f"`{printable(names[index])}`; pass the names of the classes as text"
            )


def _written_classes(
    column: LabelColumn, plain: Any, targets: Targets, names: tuple[str, ...], by_name: bool
) -> NDArray[Any]:
    """Return the (C,) classes as the given labels write them; those that do not occur as their name or index."""
    flat = plain.reshape(-1) if isinstance(plain, np.ndarray) else plain
    first = {int(targets[row]): flat[row] for row in np.unique(targets, return_index=True)[1]}
    is_text = column.kind == "text"
    values = [
        first[index] if index in first else (name if is_text else int(name) if by_name and _is_integer(name) else index)
        for index, name in enumerate(names)
    ]
    if isinstance(flat, np.ndarray) and flat.dtype != object:
        # Text gets the width of its longest name, so that no class is cut off.
        return np.array(values) if flat.dtype.kind in "US" else np.array(values).astype(flat.dtype)
    classes = np.empty(len(values), dtype=object)
    classes[:] = values
    return classes


def _is_integer(text: str) -> bool:
    return text.lstrip("-").isdigit()


def _one_hot(column: LabelColumn, plain: Any, names: tuple[str, ...] | None, restore: Restore) -> InMemoryLabels:
    width = column.width or 0
    names = names or tuple(str(number) for number in range(width))
    targets, _ = match_labels(column, names, "indices", declared=True)
    dtype = np.asarray(plain).dtype
    return InMemoryLabels(
        targets, names, np.arange(width), lambda observed: restore(np.eye(width, dtype=dtype)[observed])
    )


def _read_masks(masks: NDArray[Any], names: tuple[str, ...] | None, location: str, restore: Restore) -> InMemoryLabels:
    shape = masks.shape
    if len(shape) == 4 and shape[1] == 1:
        masks = masks[:, 0]
    if masks.ndim != 3:
        raise UserError(
            f"{location} has the shape {shape}, but masks must be (N, H, W) or (N, 1, H, W) class indices; of one-hot masks, "
            "take the argmax over the classes"
        )
    if not masks.size:
        raise UserError(f"{location} has no pixels (shape {shape}); pass at least one mask")
    whole: NDArray[np.int64] = masks.astype(np.int64) if masks.dtype.kind == "b" else exact_integers(masks, location)
    is_labeled = whole != IGNORED
    low, high = (int(limit) for limit in (whole.min(), whole.max(initial=0, where=is_labeled)))
    allowed = IGNORED if names is None else len(names)
    if low < 0 or high >= allowed:
        position = np.argwhere((whole < 0) | ((whole >= allowed) & is_labeled))[0].tolist()
        raise UserError(
            f"{location}: mask {position[0]} has the value {whole[tuple(position)]} in row {position[1]}, column "
            f"{position[2]}; allowed are classes from 0 to {allowed - 1}, and {IGNORED} for no label"
        )
    if names is None and high == 0:
        hint = (
            f"; as {IGNORED} means no label, divide masks of 0 and {IGNORED} by {IGNORED}"
            if not is_labeled.all()
            else ""
        )
        raise UserError(
            f"{location} has pixels of class 0 only, but at least two classes are needed; list all classes in class_names if "
            f"others just do not occur{hint}"
        )
    names = names or tuple(str(number) for number in range(high + 1))
    return InMemoryLabels(
        whole.astype(np.uint8),
        names,
        np.arange(len(names)),
        lambda observed: restore(observed.reshape(shape).astype(masks.dtype)),
    )


def to_plain(labels: Any, location: str) -> tuple[Any, Restore]:
    """Return labels that `read_label_column` reads, and a function that puts an array of labels into their container."""
    library = library_of(labels)
    if isinstance(labels, np.ndarray):
        return as_array(labels, location), lambda values: values
    if library == "torch":
        return open_tensor(labels, location)
    if library == "pandas" and labels.ndim == 2:
        return _from_frame(labels, location)
    if library == "pandas":
        return _from_pandas(labels)
    if library == "pyarrow":
        return _from_arrow(labels)
    if library == "polars":
        raise UserError(f"{location} is a column of polars; pass {location}.to_numpy() or {location}.to_arrow()")
    entries = list(labels)
    first: Any = entries[0] if entries else None
    if getattr(first, "ndim", 0) or isinstance(first, list | tuple) or is_picture(first):
        return open_entries(entries, location)
    # Entries such as tensors and NumPy numbers, as loops over batches collect them.
    plain = [entry.item() if hasattr(entry, "item") else entry for entry in entries]
    form = tuple if isinstance(labels, tuple) else list
    return plain, lambda values: form(values.tolist())


def _from_pandas(labels: Any) -> tuple[Any, Restore]:
    import pandas

    missing = np.asarray(labels.isna(), dtype=bool)
    plain: Any = np.where(missing, None, labels.to_numpy(dtype=object))
    if isinstance(labels, pandas.Index):
        return plain.tolist(), lambda values: pandas.Index(values.tolist(), dtype=labels.dtype, name=labels.name)
    if not isinstance(labels, pandas.Series):
        return plain.tolist(), lambda values: pandas.array(values.tolist(), dtype=labels.dtype)

    def back(values: NDArray[Any]) -> Any:
        return pandas.Series(values.tolist(), index=labels.index, name=labels.name, dtype=labels.dtype)

    return plain.tolist(), back


def _from_frame(labels: Any, location: str) -> tuple[Any, Restore]:
    if labels.shape[1] != 1:
        columns = ", ".join(printable(str(column)) for column in labels.columns[:5])
        raise UserError(
            f"{location} is a data frame of {labels.shape[1]} columns ({columns}); pass the column that has the labels"
        )
    plain, restore = _from_pandas(labels.iloc[:, 0])
    return plain, lambda values: restore(values).to_frame()


def _from_arrow(labels: Any) -> tuple[Any, Restore]:
    import pyarrow

    def back(values: NDArray[Any]) -> Any:
        dictionary = pyarrow.types.is_dictionary(labels.type)
        array = pyarrow.array(values.tolist(), type=labels.type.value_type if dictionary else labels.type)
        array = array.dictionary_encode().cast(labels.type) if dictionary else array
        return pyarrow.chunked_array([array]) if isinstance(labels, pyarrow.ChunkedArray) else array

    return labels.to_pylist(), back
