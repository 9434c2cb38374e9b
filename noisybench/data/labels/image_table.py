"""Tables of image files: the file, label, split and group of each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.data.labels.label_import import LABEL_COLUMNS, OBSERVED
from noisybench.data.labels.rows import FILE_COLUMNS, INDEX, FileNames, split_path
from noisybench.data.labels.tables import ROW_NUMBERS, SUFFIXES, LabelTable, header_hint, plain_column, read_table
from noisybench.data.notes import ReadingNote, reading_note
from noisybench.data.splits.names import Role, find_splits
from noisybench.errors import UserError, nearest, show
from noisybench.utils.places import shown
from noisybench.utils.text import printable

SPLIT_COLUMNS = ("split", "set", "subset", "partition", "data_split", "dataset_split")
FLAG_COLUMNS: Mapping[str, Role] = {
    "is_test": "test", "is_valid": "validation", "is_val": "validation", "is_validation": "validation", "is_train": "train",
}  # fmt: skip
"""Columns with true for the examples of one split."""

FLAGS = {"true": True, "1": True, "1.0": True, "yes": True, "false": False, "0": False, "0.0": False, "no": False}

ROW_COLUMNS = (INDEX, plain_column(ROW_NUMBERS))
"""Columns that number the rows."""

GROUP_COLUMNS = ("group", "group_id", "patient", "patient_id", "subject", "subject_id")

MAX_PROBLEMS = 5
"""Largest number of files that a message lists."""


@dataclass(frozen=True)
class FileTable:
    """Rows of a table whose files exist.

    Attributes:
        files: (M,) int64 position of the file of each row in the given names.
        labels: label of each row as text, or (M, C) numbers for each class.
        class_names: names of the classes, if the table has a column for each.
        splits: rows of each split; all are training examples if there are no splits.
        groups: (M,) group of each row.
        missing: reasons for rows whose file does not exist.
        location: name of the labels for messages.
        notes: facts about the reading.
    """

    files: NDArray[np.int64]
    labels: Sequence[str] | NDArray[np.float64]
    class_names: tuple[str, ...] | None
    splits: Mapping[Role, NDArray[np.int64]]
    groups: NDArray[np.str_] | None
    missing: tuple[str, ...]
    location: str
    notes: tuple[ReadingNote, ...]


def find_table(root: Path) -> Path:
    """Return the only table in a folder.

    Raises:
        UserError: there is none, or several.
    """
    names = [file for file in sorted(root.iterdir()) if file.suffix.lower() in SUFFIXES and file.name[0] != "."]
    # Text files are often licenses or notes.
    tables = [file for file in names if file.suffix.lower() != ".txt"] or names
    if len(tables) == 1:
        return tables[0]
    if not tables:
        raise UserError(
            f"dataset.table: {shown(root)} contains no table ({', '.join(SUFFIXES)}); set dataset.table to the table with the "
            "classes of the images, or use dataset=image_folder if each class has a folder"
        )
    listed = ", ".join(printable(file.name) for file in tables[:MAX_PROBLEMS])
    raise UserError(
        f"dataset.table: {shown(root)} contains {len(tables)} tables ({listed}); set dataset.table to one, or "
        "join them, with a column `split` if each has a split"
    )


def read_file_table(
    path: Path,
    names: Sequence[str],
    on_error: Literal["raise", "skip"] = "raise",
    file: str | None = None,
    label: str | None = None,
    split: str | None = None,
    group: str | None = None,
) -> FileTable:
    """Read a table of image files.

    Args:
        path: the table.
        names: paths of all images relative to their folder.
        on_error: treatment of rows whose file does not exist.
        file: column with the file names.
        label: column with the labels.
        split: column with the splits.
        group: column with the groups.

    Raises:
        UserError: a column is missing or not clear, or a row names no file, several, or one that another row has.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "labels.csv"
        ...     _ = path.write_text("image,breed,Split\\n2,pug,Training\\n1,basset,dev\\n")
        ...     table = read_file_table(path, ["1.jpg", "2.jpg"])
        >>> table.files, table.labels, dict(table.splits)
        (array([1, 0]), ['pug', 'basset'], {'train': array([0]), 'validation': array([1])})
    """
    table = read_table(path, "dataset.table")
    key = find_column(table, file, FILE_COLUMNS, "file")
    if key is None:
        raise UserError(
            f"dataset.file: {shown(path)} has no column of file names, but {', '.join(map(printable, table.columns))}; set "
            f"dataset.file to the column that names the images{header_hint(table)}"
        )
    split_column = find_column(table, split, SPLIT_COLUMNS, "split")
    group_column = find_column(table, group, GROUP_COLUMNS, "group")
    flags = table.find(list(FLAG_COLUMNS)) if split_column is None else []
    known = (key, split_column, group_column, *flags)
    others = [name for name in table.columns if name not in known and plain_column(name) not in ROW_COLUMNS]
    kept, files, missing = _match(table, key, names, on_error)
    labels, columns, location, notes = _labels(table, label, others, kept)
    if group_column is not None and group is None:
        text = f"Examples with the same `{group_column}` stay in one split"
        notes.append(ReadingNote("group_column", text, len(set(table.columns[group_column]))))
    unread = [show(name, quotes=False) for name in others if name not in columns]
    notes += reading_note("unread_columns", f"Columns of {path.name} were not read", unread)
    splits, split_notes = read_splits(table, split_column, flags, kept, [names[row] for row in files])
    notes += [*split_notes, *reading_note("missing_files", "Files that the table lists do not exist", missing)]
    return FileTable(
        files=np.array(files, dtype=np.int64),
        labels=labels,
        class_names=None if isinstance(labels, list) else columns,
        splits=splits,
        groups=None if group_column is None else read_groups(table, group_column, kept),
        missing=tuple(f"{name}: file not found" for name in missing),
        location=location,
        notes=tuple(notes),
    )


def find_column(table: LabelTable, given: str | None, usual: Sequence[str], parameter: str) -> str | None:
    """Return the column that the user names, or the one with a usual name; None without one.

    Args:
        table: the table.
        given: name that the user gives.
        usual: usual names in plain form.
        parameter: name of the parameter of the dataset, for messages.

    Raises:
        UserError: the table does not have the given column, or several with a usual name.
    """
    if given is not None:
        return table.column(given, f"dataset.{parameter}")
    found = table.find(usual)
    if parameter == "file":
        # An identifier or a name beside a file name is of something else.
        found = [column for column in found if column.casefold() not in ("id", "name")] or found
    if len(found) > 1:
        columns = " and ".join(show(column, quotes=False) for column in found)
        raise UserError(
            f"dataset.{parameter}: {shown(table.path)} has the columns {columns}; set dataset.{parameter}={found[0]} or "
            "another one"
        )
    return found[0] if found else None


def _match(
    table: LabelTable, key: str, names: Sequence[str], on_error: Literal["raise", "skip"]
) -> tuple[list[int], list[int], list[str]]:
    """Return the rows whose file exists, the positions of these files, and the names of the others."""
    known = FileNames(names)
    kept: list[int] = []
    files: list[int] = []
    missing: dict[str, int] = {}
    first: dict[int, int] = {}
    for row, cell in enumerate(table.columns[key]):
        found = known.find(cell) if cell else []
        if len(found) > 1:
            listed = " and ".join(show(names[position], quotes=False) for position in found[:3])
            raise UserError(
                f"dataset.table: {table.describe_row(row)}: {show(cell, quotes=False)} may be {listed}; write the folder "
                "as well, or set dataset.root to the folder with these images"
            )
        if not found:
            missing.setdefault(cell, row)
            continue
        if found[0] in first:
            raise UserError(
                f"dataset.table: {table.describe_row(row)}: lists {show(names[found[0]], quotes=False)} again (before in "
                f"{table.describe_row(first[found[0]]).rpartition(', ')[2]}); keep one row for each image, or read labels of "
                "several annotators with noise=from_file"
            )
        first[found[0]] = row
        kept.append(row)
        files.append(found[0])
    if missing and (on_error == "raise" or not kept):
        cell, row = next(iter(missing.items()))
        hint = nearest(split_path(cell)[-1], [split_path(name)[-1] for name in names[:5000]])
        raise UserError(
            f"dataset.table: {table.describe_row(row)}: there is no image {show(cell, quotes=False)}; {hint} "
            f"({len(missing)} of {len(table)} rows name missing files; set dataset.on_error=skip to leave them out)"
        )
    return kept, files, [printable(cell) for cell in missing]


def _labels(
    table: LabelTable, given: str | None, others: Sequence[str], kept: Sequence[int]
) -> tuple[list[str] | NDArray[np.float64], tuple[str, ...], str, list[ReadingNote]]:
    """Return the labels, the columns that hold them, their location, and notes."""
    column, notes = given, list[ReadingNote]()
    if column is not None:
        table.column(column, "dataset.label")
    else:
        found = [name for name in table.find((OBSERVED, *LABEL_COLUMNS)) if name in others]
        if not found and len(others) > 1 and (matrix := _one_hot(table, others, kept)) is not None:
            return matrix, tuple(others), f"dataset.table: {shown(table.path)}: the columns of the classes", notes
        candidates = found or list(others)
        if len(candidates) != 1:
            columns = ", ".join(show(name, quotes=False) for name in candidates) or "no other column"
            raise UserError(
                f"dataset.label: {shown(table.path)} has {columns}; set dataset.label to the column with the classes"
            )
        column = candidates[0]
        if not found:
            notes.append(ReadingNote("label_column", f"Classes were read from the column `{column}`", len(kept)))
    location = f"dataset.table: {shown(table.path)}: the column {show(column, quotes=False)}"
    return [table.columns[column][row] for row in kept], (column,), location, notes


def _one_hot(table: LabelTable, columns: Sequence[str], kept: Sequence[int]) -> NDArray[np.float64] | None:
    """Return the numbers of columns that have a 1 for the class of each row and 0 elsewhere; None if they do not."""
    try:
        values = np.array([[float(table.columns[name][row]) for name in columns] for row in kept])
    except ValueError:
        return None
    is_one_hot = ((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all()
    return values if is_one_hot else None


def read_groups(table: LabelTable, column: str, kept: Sequence[int]) -> NDArray[np.str_]:
    """Return the group of each of the given rows.

    Raises:
        UserError: a row has none.
    """
    for row in kept:
        if not table.columns[column][row]:
            raise UserError(
                f"dataset.group: {table.describe_row(row)}: has no {show(column, quotes=False)}; give every example one"
            )
    return np.array([table.columns[column][row] for row in kept])


def read_splits(
    table: LabelTable, column: str | None, flags: Sequence[str], kept: Sequence[int], names: Sequence[str]
) -> tuple[dict[Role, NDArray[np.int64]], list[ReadingNote]]:
    """Return the rows of each split by a column, by flags such as `is_valid`, or else by the first folder of the files.

    Args:
        table: the table.
        column: column with the names of the splits.
        flags: columns that are true for the examples of one split.
        kept: rows that are read.
        names: file name of each of these rows.

    Raises:
        UserError: a value stands for no split, or there is no training split.
    """
    notes = list[ReadingNote]()
    if column is not None:
        values = [table.columns[column][row] for row in kept]
        where = f"dataset.split: {shown(table.path)}: the column {show(column, quotes=False)}"
    elif flags:
        values = [_flagged(table, flags, row) for row in kept]
        where = f"dataset.split: {shown(table.path)}: the columns {', '.join(flags)}"
    else:
        folders = [name.partition("/")[0] if "/" in name else "" for name in names]
        found = find_splits(set(folders) - {""}, "dataset.root")
        if len(found.names) < 2:
            return {"train": np.arange(len(kept))}, notes
        values, where = folders, "dataset.root: the folders of the images"
        text = f"Splits are the folders {', '.join(name for members in found.names.values() for name in members)}"
        notes.append(ReadingNote("split_folders", text, len(kept)))
    found = find_splits({value for value in values if value}, where)
    if found.others or "" in values:
        other = found.others[0] if found.others else ""
        row = kept[values.index(other)]
        line = table.describe_row(row).rpartition(", ")[2]
        raise UserError(f"{where}: {line}: {show(other)} stands for no split; write train, validation or test")
    if "train" not in found.names:
        raise UserError(
            f"{where}: there is no training split, but {', '.join(sorted(set(values)))}; mark images as train"
        )
    roles = {name: role for role, members in found.names.items() for name in members}
    of_row = np.array([roles[value] for value in values])
    return {role: np.flatnonzero(of_row == role) for role in found.names}, notes


def _flagged(table: LabelTable, columns: Sequence[str], row: int) -> Role:
    """Return the split of a row by columns that are true for one split each; by default training."""
    role: Role = "train"
    for column in reversed(columns):
        cell = table.columns[column][row]
        if cell.casefold() not in FLAGS:
            raise UserError(
                f"dataset.split: {table.describe_row(row)}: `{column}` is {show(cell)}, but must be true or false"
            )
        of_column = FLAG_COLUMNS[plain_column(column)]
        if of_column == "train":
            role = "train" if FLAGS[cell.casefold()] else "test"
        elif FLAGS[cell.casefold()]:
            role = of_column
    return role
