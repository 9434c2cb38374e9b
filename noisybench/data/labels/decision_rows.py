"""Examples that the rows of a table of decisions are about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisybench.data.dataset import Dataset
from noisybench.data.labels.rows import FILE_COLUMNS, NOWHERE, check_distinct, match_rows, split_path
from noisybench.data.labels.tables import LabelTable, plain_column
from noisybench.data.labels.verification import SPLITS
from noisybench.data.notes import ReadingNote
from noisybench.data.splits.names import split_role
from noisybench.data.targets import Targets
from noisybench.errors import UserError, nearest, show

SPLIT = "split"


@dataclass(frozen=True)
class DecisionRows:
    """Examples of the M rows of a table.

    Attributes:
        split: (M,) position in `SPLITS`; `NOWHERE` for an example of no split.
        row: (M,) row in the source of the split.
        position: (M,) position in the split; `NOWHERE` for an example of no split.
    """

    split: NDArray[np.int64]
    row: NDArray[np.int64]
    position: NDArray[np.int64]

    def labels(self, dataset: Dataset, given: Mapping[str, Targets], absent: int) -> Targets:
        """Return the label of each example, `absent` for those of no split.

        Args:
            dataset: the dataset.
            given: observed labels of its splits; those of the others are their targets.
            absent: value in place of the labels.
        """
        train = given["train"]
        labels = np.full((len(self.split), *train.shape[1:]), absent, dtype=train.dtype)
        for number, name in enumerate(SPLITS):
            here = self.split == number
            labels[here] = given.get(name, getattr(dataset, name).targets)[self.position[here]]
        return labels


def column_cells(table: LabelTable, name: str) -> tuple[str, Sequence[str]]:
    """Return the column with a name and its cells; empty cells if there is none."""
    column = next(iter(table.find([name])), None)
    return (name, [""] * len(table)) if column is None else (column, table.columns[column])


def find_decision_rows(
    table: LabelTable, dataset: Dataset, label_columns: Sequence[str], key: str | None, allow_unknown_files: bool
) -> tuple[DecisionRows, tuple[ReadingNote, ...]]:
    """Return the example of each row; rows of a test split of the source's own are counted in that split.

    Args:
        table: the table.
        dataset: the dataset.
        label_columns: columns that number no rows.
        key: column with rows or file names.
        allow_unknown_files: leave rows of unknown files out.

    Raises:
        UserError: a row belongs to no example or to that of another row, or its split is unknown.
    """
    _check_splits(table, dataset)
    size = len(table)
    is_own_test = np.zeros(size, dtype=bool)
    if dataset.test_source_size is not None:
        splits = column_cells(table, SPLIT)[1]
        is_own_test = np.array([split_role(cell) == "test" for cell in splits], dtype=bool)
    rows, notes = np.full(size, NOWHERE, dtype=np.int64), tuple[ReadingNote, ...]()
    excluded = {name for name in table.columns if plain_column(name) in label_columns}
    parts = (
        (~is_own_test, dataset.source_size, dataset.source_names),
        (is_own_test, dataset.test_source_size or 0, dataset.test_names),
    )
    for mask, source_size, names in parts:
        if mask.any() or (mask is parts[0][0] and not size):
            part = table if mask.all() else _take(table, np.flatnonzero(mask))
            match = match_rows(part, source_size, names, key, allow_unknown_files, label_columns=excluded)
            check_distinct(part, match.rows)
            rows[mask] = match.rows
            notes += match.notes
    split, position = (np.full(size, NOWHERE, dtype=np.int64) for _ in range(2))
    for number, name in enumerate(SPLITS):
        own = name == "test" and dataset.test_source_size is not None
        source_size = dataset.test_source_size if own and dataset.test_source_size else dataset.source_size
        index = getattr(dataset, name).index
        of_row = np.full(source_size, NOWHERE, dtype=np.int64)
        of_row[index] = np.arange(len(index))
        here = np.flatnonzero((is_own_test if own else ~is_own_test) & (rows != NOWHERE))
        here = here[of_row[rows[here]] != NOWHERE]
        split[here], position[here] = number, of_row[rows[here]]
    return DecisionRows(split, rows, position), notes


def _check_splits(table: LabelTable, dataset: Dataset) -> None:
    """Refuse cells of the column `split` that name no split, or another one than the folder of the file.

    Training and validation examples may be divided in another way than by the audit. Only a test split of the source's own
    has examples of its own, so that a file in it cannot be one of training.
    """
    column, cells = column_cells(table, SPLIT)
    files = next((table.columns[name] for name in table.find(FILE_COLUMNS)), None)
    for row, cell in enumerate(cells):
        if not cell:
            continue
        role = split_role(cell)
        if role is None:
            raise UserError(
                f"{table.option}: {table.describe_row(row)}: unknown {column} {show(cell, quotes=False)}; "
                f"{nearest(cell, SPLITS)}"
            )
        if dataset.test_source_size is None or files is None:
            continue
        folders = {split_role(folder) for folder in split_path(files[row])[:-1]} - {None}
        if folders and (role == "test") is not ("test" in folders):
            raise UserError(
                f"{table.option}: {table.describe_row(row)}: the {column} is {cell}, but the file "
                f"{show(files[row], quotes=False)} is one of {' and '.join(sorted(map(str, folders)))}, which the source keeps "
                "apart; correct one of them"
            )


def _take(table: LabelTable, rows: NDArray[np.int64]) -> LabelTable:
    """Return some rows of a table."""
    columns = {name: [cells[row] for row in rows.tolist()] for name, cells in table.columns.items()}
    lines = tuple(table.lines[row] for row in rows.tolist()) if table.lines else ()
    return LabelTable(table.path, columns, lines, table.option)
