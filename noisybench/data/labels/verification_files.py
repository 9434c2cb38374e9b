"""Verified labels on disk: a table with the columns split, index, given, verified and decision; masks as their bytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from noisybench.data.labels.verification import RECORDED, SPLITS, Verification, VerifiedRows
from noisybench.data.targets import IGNORED, UNKNOWN_TARGET, Targets
from noisybench.errors import UserError
from noisybench.utils.files import first_line
from noisybench.utils.places import check_file, shown

if TYPE_CHECKING:
    import pyarrow

COLUMNS = ("index", "given", "verified", "decision")

MASK_SHAPE = b"mask_shape"
"""Entry of the metadata with height and width of masks."""


def write_verification(verification: Verification, path: Path) -> None:
    """Write verified labels to a parquet file.

    Example:
        >>> import tempfile
        >>> rows = VerifiedRows(np.array([2]), np.array([1]), np.array([0]), np.array([0]))
        >>> verification = Verification({"train": rows}, of_dataset=True)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_verification(verification, Path(folder) / "verified.parquet")
        ...     read_verification(Path(folder) / "verified.parquet", num_classes=2).hash == verification.hash
        True
    """
    import pyarrow
    import pyarrow.parquet

    tables, metadata = [], {b"of_dataset": str(verification.of_dataset).encode()}
    for name, rows in verification.rows.items():
        decisions = [RECORDED[number] for number in rows.decision.tolist()]
        columns: dict[str, Any] = {"split": [name] * len(rows.index), "index": rows.index}
        columns |= {"given": _to_column(rows.given), "verified": _to_column(rows.verified), "decision": decisions}
        tables.append(pyarrow.table(columns))
        if rows.given.ndim == 3:
            metadata[MASK_SHAPE] = "x".join(map(str, rows.given.shape[1:])).encode()
    table = pyarrow.concat_tables(tables).replace_schema_metadata(metadata)
    pyarrow.parquet.write_table(table, path, compression="zstd" if MASK_SHAPE in metadata else "snappy")


def read_verification(path: Path, num_classes: int) -> Verification:
    """Read verified labels that `write_verification` has written.

    Raises:
        UserError: the file is damaged, or a label is no class.
    """
    import pyarrow.parquet

    check_file(path)
    try:
        table = pyarrow.parquet.read_table(path)
        of_dataset = {b"True": True, b"False": False}[(table.schema.metadata or {})[b"of_dataset"]]
        splits = np.array(table["split"].to_pylist(), dtype=str)
        decisions = [RECORDED.index(decision) for decision in table["decision"].to_pylist()]
        index = table["index"].to_numpy().astype(np.int64, casting="safe")
        given, verified = (_from_column(table, name) for name in ("given", "verified"))
        columns = (index, given, verified, np.array(decisions, dtype=np.int64))
    except Exception as error:  # readers of columns raise anything on damaged files
        raise UserError(
            f"{shown(path)}: cannot be read ({first_line(error)}); create or copy the label set again"
        ) from None
    labels = np.concatenate([given, verified])
    out_of_range = (labels >= num_classes) & ((labels != IGNORED) | (labels.ndim == 1)) | (labels < UNKNOWN_TARGET)
    if not set(splits.tolist()) <= set(SPLITS) or out_of_range.any():
        raise UserError(f"{shown(path)}: has labels or splits that do not exist; create or copy the label set again")
    names = [name for name in SPLITS if (splits == name).any()]
    rows = {name: VerifiedRows(*(column[splits == name] for column in columns)) for name in names}
    return Verification(rows, of_dataset)


def _to_column(labels: Targets) -> Any:
    """Return classes as they are, and masks as one value of bytes each."""
    import pyarrow

    if labels.ndim == 1:
        return labels
    return pyarrow.array([mask.tobytes() for mask in labels], pyarrow.binary(labels[0].size))


def _from_column(table: pyarrow.Table, name: str) -> Targets:
    shape = (table.schema.metadata or {}).get(MASK_SHAPE)
    if shape is None:
        return np.asarray(table[name].to_numpy().astype(np.int64, casting="safe"))
    height, width = map(int, shape.split(b"x"))
    masks = np.frombuffer(b"".join(table[name].to_pylist()), dtype=np.uint8)
    return masks.reshape(len(table), height, width).copy()
