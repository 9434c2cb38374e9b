"""Tables of numbers: the numeric columns, label and split of each row."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.data.labels.image_table import (
    FLAG_COLUMNS,
    GROUP_COLUMNS,
    ROW_COLUMNS,
    SPLIT_COLUMNS,
    find_column,
    read_groups,
    read_splits,
)
from noisybench.data.labels.rows import FILE_COLUMNS
from noisybench.data.labels.tables import LabelTable, parse_table, plain_column, read_table
from noisybench.data.labels.text_table import IDENTIFIERS, LABEL_NAMES, TEXT_COLUMNS
from noisybench.errors import UserError, show
from noisybench.utils.places import shown

SUFFIXES = (".csv", ".tsv")
"""Suffixes of tables of numbers."""

NUM_HEAD_ROWS = 20
"""Number of rows that show whether columns are numeric."""


def read_numeric_table(path: Path, location: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of a table with a label and numbers in each row: `train_x`, `train_y`, `id_x` for the test split, ...

    Columns that number or identify the rows, and those of splits and groups, are no features.

    Args:
        path: the `.csv` or `.tsv` file.
        location: name of the parameter that holds the path, for messages.

    Raises:
        UserError: the file is damaged, has no column of labels or of numbers, or a cell is no finite number.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "flowers.csv"
        ...     _ = path.write_text("length,width,label\\n1.5,2,rose\\n3,4,lily\\n")
        ...     arrays = read_numeric_table(path, "dataset.path")
        >>> arrays["train_x"].tolist(), arrays["train_y"].tolist()
        ([[1.5, 2.0], [3.0, 4.0]], ['rose', 'lily'])
    """
    table = read_table(path, location)
    labels, numeric = table.find(LABEL_NAMES), _numeric_names(table)
    if len(labels) != 1 or not numeric:
        listed = ", ".join(show(name, quotes=False) for name in table.columns)
        raise UserError(
            f"{location}: {shown(path)} must have one column `label` and columns of numbers, but has {listed}; rename the column "
            "with the classes"
        )
    points = np.stack([_numbers(table, name, location) for name in numeric], axis=1)
    split_column = find_column(table, None, SPLIT_COLUMNS, "split")
    rows = range(len(table))
    flags = table.find(list(FLAG_COLUMNS)) if split_column is None else []
    splits, _ = read_splits(table, split_column, flags, rows, [""] * len(table))
    is_test = np.isin(np.arange(len(table)), splits.get("test", []))
    text = np.array(table.columns[labels[0]], dtype=np.str_)
    arrays = {"train_x": points[~is_test], "train_y": text[~is_test]}
    if "test" in splits:
        arrays |= {"id_x": points[is_test], "id_y": text[is_test]}
    if "validation" in splits:
        arrays["train_is_validation"] = np.isin(np.arange(len(table)), splits["validation"])[~is_test]
    identifiers = [name for name in table.find(IDENTIFIERS)[:1] if len(set(table.columns[name])) == len(table)]
    if identifiers:
        arrays["train_names"] = np.array(table.columns[identifiers[0]], dtype=np.str_)[~is_test]
    group_column = find_column(table, None, GROUP_COLUMNS, "group")
    if group_column is not None:
        arrays["train_groups"] = read_groups(table, group_column, np.flatnonzero(~is_test).tolist())
    return arrays


def read_numbers(path: Path, location: str) -> NDArray[np.float32]:
    """Return the (N, D) numbers of a table without labels; columns with another meaning, such as `label`, are left out.

    Args:
        path: the `.csv` or `.tsv` file.
        location: name of the parameter that holds the path, for messages.

    Raises:
        UserError: the file is damaged, has no columns of numbers, or a cell is no finite number.
    """
    table = read_table(path, location)
    numeric = _numeric_names(table)
    if not numeric or not len(table):
        raise UserError(f"{location}: {shown(path)} has no rows of numbers; give one column for each feature")
    return np.stack([_numbers(table, name, location) for name in numeric], axis=1)


def has_numeric_columns(path: Path) -> bool:
    """Return True for a text table with a column of labels under a usual name, and no others but numbers.

    Example:
        >>> has_numeric_columns(Path("/proc/nosuch.csv"))
        False
    """
    if path.suffix.lower() not in SUFFIXES:
        return False
    try:
        with path.open(encoding="utf-8-sig") as file:
            columns, lines = parse_table("".join(itertools.islice(file, NUM_HEAD_ROWS)), shown(path))
    except (OSError, ValueError, UserError):  # other and damaged files, which their readers report
        return False
    table = LabelTable(path, columns, lines)
    # Numbers may be names of image files or texts.
    files = [name for name in table.find(FILE_COLUMNS) if plain_column(name) not in IDENTIFIERS]
    if not table.find(LABEL_NAMES) or files or table.find(TEXT_COLUMNS):
        return False
    numeric = _numeric_names(table)
    return bool(numeric and lines) and all(
        not cell or _number(cell) is not None for name in numeric for cell in columns[name]
    )


def _numeric_names(table: LabelTable) -> list[str]:
    """Return the columns that have no other meaning than that of a feature."""
    others = {*LABEL_NAMES, *IDENTIFIERS, *SPLIT_COLUMNS, *FLAG_COLUMNS, *GROUP_COLUMNS, *ROW_COLUMNS}
    return [name for name in table.columns if plain_column(name) not in others]


def _numbers(table: LabelTable, name: str, location: str) -> NDArray[np.float32]:
    values = [_number(cell) for cell in table.columns[name]]
    if None in values:
        row = values.index(None)
        raise UserError(
            f"{location}: {table.describe_row(row)}, column {show(name, quotes=False)}: "
            f"{show(table.columns[name][row])} is no finite number; correct it or leave out the row"
        )
    return np.array(values, dtype=np.float32)


def _number(cell: str) -> float | None:
    """Return the finite number in a cell; None if there is none."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
