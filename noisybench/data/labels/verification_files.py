"""Verified labels on disk: a table with the columns split, index, given, verified and decision."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from noisybench.data.labels.verification import RECORDED, SPLITS, Verification, VerifiedRows
from noisybench.data.targets import UNKNOWN_TARGET
from noisybench.errors import UserError
from noisybench.utils.files import first_line
from noisybench.utils.places import check_file, shown

COLUMNS = ("index", "given", "verified", "decision")


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

    tables = []
    for name, rows in verification.rows.items():
        decisions = [RECORDED[number] for number in rows.decision.tolist()]
        columns = {"split": [name] * len(rows.index), "index": rows.index, "given": rows.given}
        tables.append(pyarrow.table(columns | {"verified": rows.verified, "decision": decisions}))
    metadata = {"of_dataset": str(verification.of_dataset)}
    pyarrow.parquet.write_table(pyarrow.concat_tables(tables).replace_schema_metadata(metadata), path)


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
        index, given, verified = (table[name].to_numpy().astype(np.int64, casting="safe") for name in COLUMNS[:3])
        columns = (index, given, verified, np.array(decisions, dtype=np.int64))
    except Exception as error:  # readers of columns raise anything on damaged files
        raise UserError(
            f"{shown(path)}: cannot be read ({first_line(error)}); create or copy the label set again"
        ) from None
    labels = np.concatenate([given, verified])
    if not set(splits.tolist()) <= set(SPLITS) or ((labels < UNKNOWN_TARGET) | (labels >= num_classes)).any():
        raise UserError(f"{shown(path)}: has labels or splits that do not exist; create or copy the label set again")
    names = [name for name in SPLITS if (splits == name).any()]
    rows = {name: VerifiedRows(*(column[splits == name] for column in columns)) for name in names}
    return Verification(rows, of_dataset)
