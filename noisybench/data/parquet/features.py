"""Parquet files of features: one row for each example, with its features, label, split and what else is known about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.data.splits.names import split_role
from noisybench.errors import UserError, nearest, show
from noisybench.utils.files import first_line, replacing, wrap_write_errors
from noisybench.utils.places import check_file, shown

FEATURES = "features"
"""Column of the features, a list of numbers of one length."""

COLUMNS = {"label": "y", "noisy_label": "noisy_y", "name": "names", "group": "groups", "is_validation": "is_validation"}
"""Other columns, and the ends of the names of their arrays."""

PREFIXES = {"train": "train", "validation": "train", "test": "id"}
"""Beginnings of the names of arrays by split; shifted test sets have names such as `ood_far`."""

CLASS_NAMES = b"class_names"
"""Entry of the metadata with the class names as JSON."""


def write_feature_table(arrays: dict[str, NDArray[Any]], path: Path) -> None:
    """Write the arrays of a dataset of features as a table.

    Args:
        arrays: `train_x`, `train_y` and others, as `dataset=features` reads them.
        path: the `.parquet` file.

    Raises:
        UserError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> arrays = {"train_x": np.eye(2, dtype=np.float32), "train_y": np.array([0, 1]), "class_names": np.array(["a", "b"])}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_feature_table(arrays, Path(folder) / "features.parquet")
        ...     read_feature_table(Path(folder) / "features.parquet")["train_y"]
        array([0, 1])
    """
    import pyarrow
    import pyarrow.parquet

    tables = []
    for prefix in [name.removesuffix("_x") for name in arrays if name.endswith("_x")]:
        points = np.ascontiguousarray(arrays[f"{prefix}_x"], dtype=np.float32)
        values = pyarrow.array(points.reshape(-1))
        columns: dict[str, Any] = {
            "split": pyarrow.array(["test" if prefix == "id" else prefix] * len(points)),
            FEATURES: pyarrow.FixedSizeListArray.from_arrays(values, points.shape[1]),
        }
        for column, end in COLUMNS.items():
            if f"{prefix}_{end}" in arrays:
                columns[column] = pyarrow.array(arrays[f"{prefix}_{end}"].tolist())
        tables.append(pyarrow.table(columns))
    table = pyarrow.concat_tables(tables, promote_options="default")
    names = json.dumps(arrays["class_names"].tolist()) if "class_names" in arrays else "null"
    with wrap_write_errors(path), replacing(path) as partial:
        pyarrow.parquet.write_table(table.replace_schema_metadata({CLASS_NAMES: names}), partial)


def read_feature_table(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a table of features: `train_x`, `train_y`, `id_x` for the test split, and others.

    Raises:
        UserError: the file is damaged, has no features or no labels, or a split has no meaning.
    """
    import pyarrow.parquet

    check_file(path, "dataset.path")
    where = f"dataset.path: {shown(path)}"
    try:
        table = pyarrow.parquet.read_table(path)
    except Exception as error:  # readers of parquet raise anything on damaged files
        raise UserError(f"{where}: cannot be read ({first_line(error)}); compute the features again") from None
    for required in (FEATURES, "label"):
        if required not in table.column_names:
            raise UserError(f"{where} has no column `{required}`; {nearest(required, table.column_names)}")
    points = _to_matrix(table[FEATURES], where)
    splits = table["split"].to_pylist() if "split" in table.column_names else ["train"] * len(points)
    prefixes = {split: _prefix(split, where) for split in dict.fromkeys(splits)}
    of_row = np.array([prefixes[split] for split in splits])
    arrays: dict[str, NDArray[Any]] = {}
    for prefix in dict.fromkeys(prefixes.values()):
        rows = np.flatnonzero(of_row == prefix)
        arrays[f"{prefix}_x"] = points[rows]
        for column, end in COLUMNS.items():
            if column in table.column_names:
                values = table[column].take(rows)
                # Columns that only some splits have are empty in the others.
                if values.null_count < len(values):
                    arrays[f"{prefix}_{end}"] = _to_array(values, f"{where}: the column `{column}`")
    if any(split_role(split) == "validation" for split in prefixes) and "train_is_validation" not in arrays:
        train = [
            split_role(split) == "validation" for split, prefix in zip(splits, of_row, strict=True) if prefix == "train"
        ]
        arrays["train_is_validation"] = np.array(train)
    names = json.loads((table.schema.metadata or {}).get(CLASS_NAMES, b"null"))
    if names is not None:
        arrays["class_names"] = np.array(names, dtype=np.str_)
    return arrays


def has_features(path: Path) -> bool:
    """Return True for a parquet file with columns of features and labels.

    Example:
        >>> has_features(Path("/proc/nosuch.parquet"))
        False
    """
    import pyarrow.parquet

    try:
        return {FEATURES, "label"} <= set(pyarrow.parquet.read_schema(path).names)
    except Exception:  # other and damaged files, which their readers report
        return False


def _prefix(split: object, where: str) -> str:
    role = split_role(split) if isinstance(split, str) else None
    if role is not None:
        return PREFIXES[role]
    if isinstance(split, str) and split.startswith("ood_"):
        return split
    raise UserError(
        f"{where}: the column `split` has {show(split)}, which stands for no split; write train, validation, test or ood_NAME"
    )


def _to_matrix(column: Any, where: str) -> NDArray[Any]:
    """Return the (N, D) numbers of a column of lists."""
    import pyarrow

    joined = column.combine_chunks()
    kind = joined.type
    is_list = pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind) or pyarrow.types.is_fixed_size_list(kind)
    if not is_list or not (pyarrow.types.is_floating(kind.value_type) or pyarrow.types.is_integer(kind.value_type)):
        raise UserError(f"{where}: the column `{FEATURES}` must have lists of numbers, but has the type {kind}")
    if joined.null_count or joined.flatten().null_count:
        raise UserError(f"{where}: the column `{FEATURES}` has missing values; every example needs all features")
    sizes = {kind.list_size} if pyarrow.types.is_fixed_size_list(kind) else set(joined.value_lengths().to_pylist())
    if len(sizes) > 1:
        raise UserError(
            f"{where}: rows have {min(sizes)} to {max(sizes)} features; compute all features with the same backbone"
        )
    values: NDArray[Any] = joined.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(joined), -1)


def _to_array(values: Any, where: str) -> NDArray[Any]:
    """Return a column as an array of text, numbers or truth values."""
    if values.null_count:
        raise UserError(f"{where} lacks {values.null_count} of {len(values)} values; give every row of a split one")
    listed = values.to_pylist()
    return np.array(listed, dtype=np.str_) if isinstance(listed[0], str) else np.array(listed)
