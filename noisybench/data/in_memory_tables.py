"""Tables and data sets that hold inputs and labels together: of pandas, pyarrow, Hugging Face and torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from noisybench.data.containers import library_of
from noisybench.errors import UserError, nearest
from noisybench.utils.text import printable

LABEL_COLUMNS = ("label", "labels", "target", "class")
"""Usual names of the column with the labels; the first that a table has is used."""


@dataclass(frozen=True)
class LabeledData:
    """Inputs and labels, and the way back to the table that held them.

    Attributes:
        labels: labels, as `read_labels` reads them.
        inputs: returns the inputs, as `read_inputs` reads them.
        replace: returns the table with other labels, and with other inputs if they are not None.
        class_names: names of the classes, if the table has them.
        shape: shape of the inputs, if they are one array.
    """

    labels: Any
    inputs: Callable[[], Any]
    replace: Callable[[Any, Any], Any]
    class_names: tuple[str, ...] | None = None
    shape: tuple[int, ...] | None = None


def open_table(data: Any, column: str | None = None) -> LabeledData | None:
    """Return the inputs and labels of a table or data set; None for arrays, which hold one of both.

    Args:
        data: data frame of pandas, table of pyarrow, data set of Hugging Face, or map-style data set of torch.
        column: column with the labels, or key of the labels in the items of a torch data set; by default, one with a usual
            name, and the second entry of items that are pairs.

    Raises:
        UserError: the table has no such column, or cannot be read by position.

    Example:
        >>> import pandas
        >>> frame = pandas.DataFrame({"width": [1.5, 2.5], "label": ["cat", "dog"]})
        >>> table = open_table(frame)
        >>> table.labels.tolist(), table.replace(["dog", "dog"], None).label.tolist()
        (['cat', 'dog'], ['dog', 'dog'])
    """
    library, name = library_of(data), type(data).__name__
    if library == "pandas" and name == "DataFrame":
        return _from_frame(data, _label_column([str(each) for each in data.columns], column))
    if library == "pyarrow" and name == "Table":
        return _from_arrow(data, _label_column(data.column_names, column))
    if library == "datasets" and name == "Dataset":
        return _from_hugging_face(data, _label_column(data.column_names, column))
    if library == "datasets":
        raise UserError(f"X is a {name}, which has no positions; load the data set without streaming")
    if _is_torch_dataset(data):
        from noisybench.data.in_memory_torch import open_torch_dataset

        return open_torch_dataset(data, column)
    if name == "DataLoader":
        raise UserError("X is a DataLoader, whose order changes; pass its data set (loader.dataset)")
    return None


def _is_torch_dataset(data: Any) -> bool:
    """Return True for data sets of torch; torch itself is not imported."""
    return any(base.__module__ == "torch.utils.data.dataset" for base in type(data).__mro__)


def _label_column(columns: Sequence[str], column: str | None) -> str:
    found = next((name for name in LABEL_COLUMNS if name in columns), None) if column is None else column
    if found is None:
        listed = ", ".join(printable(name) for name in columns)
        raise UserError(f"y: name the column with the labels; X has the columns {listed}")
    if found not in columns:
        raise UserError(f"y: X has no column `{printable(found)}`; {nearest(found, columns)}")
    return found


def _from_frame(frame: Any, column: str) -> LabeledData:
    others = [name for name in frame.columns if name != column]

    def replace(labels: Any, inputs: Any) -> Any:
        changed = frame.copy(deep=False)
        if inputs is not None:
            changed[others] = inputs
        # By position: the labels have the index of the frame, in which values may occur twice.
        changed[column] = getattr(labels, "array", labels)
        return changed

    return LabeledData(frame[column], lambda: frame[others], replace)


def _from_arrow(table: Any, column: str) -> LabeledData:
    def replace(labels: Any, inputs: Any) -> Any:
        return table.set_column(table.column_names.index(column), table.schema.field(column), labels)

    return LabeledData(table[column], lambda: table.drop_columns([column]), replace)


def _from_hugging_face(data: Any, column: str) -> LabeledData:
    library: Any = importlib.import_module("datasets")
    plain = data.with_format(None)
    inputs = _input_column(data, column)

    def replace(labels: Any, images: Any) -> Any:
        # Columns are made from Python objects with the feature of the old ones, which encodes images and class names.
        new = {column: labels} | ({} if images is None else {inputs: images})
        parts = [plain.remove_columns(list(new))] if len(new) < len(data.column_names) else []
        parts.append(library.Dataset.from_dict(new, library.Features({name: data.features[name] for name in new})))
        joined = library.concatenate_datasets(parts, axis=1).select_columns(data.column_names)
        joined.set_format(**data.format)
        return joined

    def read() -> Any:
        if inputs is not None:
            return list(plain[inputs])
        return plain.remove_columns([column]).to_pandas()

    names = getattr(data.features[column], "names", None)
    return LabeledData(list(plain[column]), read, replace, None if names is None else tuple(names))


def _input_column(data: Any, column: str) -> str | None:
    """Return the one column with images, texts or vectors; None if the inputs are several columns of numbers."""
    others: list[str] = [name for name in data.column_names if name != column]
    images = [name for name in others if type(data.features[name]).__name__ == "Image"]
    if len(images) == 1:
        return images[0]
    return others[0] if len(others) == 1 else None
