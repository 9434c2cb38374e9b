"""Examples that the rows of a label table belong to: by source row, by file name, or in the order of the source."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisybench.data.arrays import MAX_EXACT
from noisybench.data.labels.tables import LabelTable
from noisybench.data.notes import MAX_NAMES, ReadingNote, reading_note
from noisybench.data.splits.names import split_role
from noisybench.errors import UserError, nearest, show
from noisybench.utils.places import shown
from noisybench.utils.text import printable

INDEX = "index"
"""Column with the rows of the dataset's source."""

FILE_COLUMNS = (
    "file", "filename", "file_name", "filepath", "file_path", "path", "image", "image_file", "image_path", "image_name",
    "img", "img_path", "image_id", "name", "id",
)  # fmt: skip
"""Names of columns with file names, as annotation tools call them."""

NOWHERE = -1
"""Source row of a table row whose example is not in the source."""

_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
"""Prefix that Label Studio gives to uploaded files."""

_NUMBER = re.compile(r"[+-]?[0-9]+(\.0*)?", re.ASCII)
_DECIMAL = re.compile(r"[0-9]+\.0+", re.ASCII)


@dataclass(frozen=True)
class RowMatch:
    """Examples of the rows of a table.

    Attributes:
        rows: (M,) int64 source rows; `NOWHERE` for examples of other splits and, where allowed, unknown files.
        notes: facts about rows that belong to no example.
    """

    rows: NDArray[np.int64]
    notes: tuple[ReadingNote, ...] = ()


def match_rows(
    table: LabelTable,
    source_size: int,
    source_names: Sequence[str],
    key: str | None = None,
    allow_unknown_files: bool = False,
    label_columns: Collection[str | None] = (),
) -> RowMatch:
    """Return the source row of each row of a table.

    The column `index` decides; without it a column of file names in any order, or else the order of the rows.

    Args:
        table: the table.
        source_size: number of examples of the source.
        source_names: file name of each example, if the source has files.
        key: column to use.
        allow_unknown_files: leave rows of unknown files out instead of refusing them.
        label_columns: columns of labels, which number no rows.

    Raises:
        UserError: a row belongs to no example or to several, two columns disagree, or the number of rows is wrong.

    Example:
        >>> from pathlib import Path
        >>> table = LabelTable(Path("labels.csv"), {"file": ["dog/2.png", "1"], "label": ["dog", "cat"]}, (2, 3))
        >>> match_rows(table, 2, ("cat/1.png", "dog/2.png")).rows
        array([1, 0])
    """
    index_column = next(iter(table.find([INDEX])), None)
    file_column = _file_column(table, key, index_column)
    if key is not None and key == index_column:
        file_column = None
    by_index = None
    if index_column is not None and (key is None or key == index_column):
        by_index = _read_index(table, index_column, source_size)
    if file_column is not None and (source_names or by_index is None):
        if not source_names:
            raise UserError(
                f"{table.name} names files in the column {show(file_column, quotes=False)}, but the "
                "examples of this dataset are no files; add a column `index` with the rows of the source"
            )
        by_file = _match_files(table, file_column, source_names, allow_unknown_files or by_index is not None)
        if by_index is None:
            return by_file
        _compare(table, file_column, by_index, by_file.rows, source_names)
    if by_index is not None:
        return RowMatch(by_index)
    if len(table) != source_size:
        raise UserError(
            f"{table.name} has {len(table)} labels, but the dataset's source has {source_size} "
            "training examples; provide one label for each in the order of the source, or add a column `index` with source "
            "rows or `file` with file names"
        )
    _check_order(table, label_columns)
    return RowMatch(np.arange(source_size))


def _check_order(table: LabelTable, label_columns: Collection[str | None]) -> None:
    """Refuse a table without a key if a column numbers its rows in another order, as after a sort or a shuffle."""
    for name, cells in table.columns.items():
        if name in label_columns or not all(_NUMBER.fullmatch(cell) and len(cell) < 20 for cell in cells):
            continue
        numbers = np.array([int(cell.partition(".")[0]) for cell in cells], dtype=np.int64)
        order = np.sort(numbers)
        if (np.diff(order) == 1).all() and (order != numbers).any():
            row = int(np.flatnonzero(order != numbers)[0])
            raise UserError(
                f"{table.option}: {table.describe_row(row)}: the column {show(name, quotes=False)} numbers the rows in another "
                f"order ({numbers[row]} where {order[row]} follows), and nothing says which example a row belongs to; rename "
                f"the column to `{INDEX}` if it holds the rows of the source, counted from 0, or remove it if the order of the "
                "rows is that of the source"
            )


def _file_column(table: LabelTable, key: str | None, index_column: str | None) -> str | None:
    if key is not None:
        return table.column(key, table.sibling("key") or table.option)
    found = table.find(FILE_COLUMNS)
    # An identifier beside file names is the annotation tool's own.
    named = [column for column in found if column.casefold() not in ("id", "name")] or found
    if len(named) > 1 and index_column is None:
        columns = " and ".join(show(column, quotes=False) for column in named)
        raise UserError(
            f"{parameter}: {shown(table.path)} has the columns {columns}; set {parameter}={named[0]} or another one to say "
            "which of them names the files"
            if (parameter := table.sibling("key"))
            else f"{table.name} has the columns {columns}; remove all but the one that names the files"
        )
    return named[0] if named else None


def _read_index(table: LabelTable, column: str, source_size: int) -> NDArray[np.int64]:
    numbers = np.empty(len(table), dtype=np.int64)
    for row, cell in enumerate(table.columns[column]):
        number = int(cell.partition(".")[0]) if _NUMBER.fullmatch(cell) and len(cell) < 20 else None
        if number is None or abs(number) > MAX_EXACT:
            raise UserError(
                f"{table.option}: {table.describe_row(row)}: the index must be an integer, but is {show(cell)}"
            )
        if not 0 <= number < source_size:
            raise UserError(
                f"{table.option}: {table.describe_row(row)}: contains the index {number}, but the dataset's source has "
                f"{source_size} training examples, numbered from 0 to {source_size - 1}"
            )
        numbers[row] = number
    return numbers


class FileNames:
    """Names of files, which are found by a part of their path in any usual spelling.

    Args:
        names: the names, such as paths relative to a folder.
        only_train: paths into a folder of test files do not stand for a name without that folder.

    Example:
        >>> names = FileNames(["cat/1.png", "dog/1.png", "dog/2.png"])
        >>> names.find("2"), names.find("1.png"), names.find("images/dog/1.png"), names.find("1.jpg")
        ([2], [0, 1], [1], [])
        >>> names.find("2.0")  # a column of numbers that passed through floating point
        [2]
    """

    def __init__(self, names: Sequence[str], only_train: bool = False) -> None:
        self._only_train = only_train
        self._parts = [split_path(name) for name in names]
        self._by_path: dict[tuple[str, ...], list[int]] = {}
        self._by_base: dict[str, list[int]] = {}
        self._by_stem: dict[str, list[int]] = {}
        for position, parts in enumerate(self._parts):
            self._by_path.setdefault(parts, []).append(position)
            self._by_base.setdefault(parts[-1], []).append(position)
            self._by_stem.setdefault(file_stem(parts[-1]), []).append(position)

    def find(self, key: str) -> list[int]:
        """Return the positions of the names that a key may stand for: several if it is not clear."""
        parts = split_path(key)
        if parts in self._by_path:
            return self._by_path[parts]
        candidates = (
            self._by_base.get(parts[-1])
            or self._by_stem.get(parts[-1])
            or self._by_base.get(file_stem(parts[-1]))
            or []
        )
        # The folders of the shorter path must be the last ones of the longer.
        overlaps = {
            position: overlap
            for position in candidates
            if (overlap := min(len(parts), len(self._parts[position])))
            and parts[len(parts) - overlap : -1] == self._parts[position][len(self._parts[position]) - overlap : -1]
            and not (self._only_train and _is_other_split(parts[: len(parts) - overlap]))
        }
        if not overlaps and _DECIMAL.fullmatch(parts[-1]):
            return self.find(key.strip().rpartition(".")[0])
        longest = max(overlaps.values(), default=0)
        return [position for position, overlap in overlaps.items() if overlap == longest]


def split_path(name: str) -> tuple[str, ...]:
    """Return the parts of a path in the normal form NFC, whatever its separators.

    Example:
        >>> split_path(".\\\\train\\\\cat\\\\1.png")
        ('train', 'cat', '1.png')
    """
    text = name.strip().replace("\\", "/")
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return tuple(part for part in text.split("/") if part not in ("", ".")) or ("",)


def file_stem(name: str) -> str:
    """Return a file name without its suffix, of which `.nii.gz` is one.

    Example:
        >>> file_stem("scan.v2.nii.gz"), file_stem("12")
        ('scan.v2', '12')
    """
    base, dot, suffix = name.rpartition(".")
    # `img.v2` beside `img.v3` are names without suffixes; suffixes begin with a letter and are short.
    if not dot or not base or not 1 < len(suffix) <= 5 or not suffix.isalnum() or not suffix[0].isalpha():
        return name
    return base.removesuffix(".nii") if suffix.lower() == "gz" else base


def _is_other_split(folders: tuple[str, ...]) -> bool:
    """Return True for a path into a split whose labels a label set does not hold."""
    return any(split_role(folder) == "test" for folder in folders)


def _match_files(table: LabelTable, column: str, source_names: Sequence[str], allow_unknown: bool) -> RowMatch:
    names = FileNames(source_names, only_train=True)
    if (by_base := _match_base_names(table.columns[column], names)) is not None:
        text = "Files were matched by their names alone, because their folders in the table are others"
        return RowMatch(by_base, (ReadingNote("other_folders", text, len(by_base)),))
    rows = np.full(len(table), NOWHERE, dtype=np.int64)
    unknown: dict[str, int] = {}
    other_splits: list[str] = []
    for row, cell in enumerate(table.columns[column]):
        found = names.find(cell) if cell else []
        if len(found) > 1:
            listed = " and ".join(show(source_names[position], quotes=False) for position in found[:3])
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            raise UserError(
                f"{table.option}: {table.describe_row(row)}: {show(cell, quotes=False)} may be {listed}{more}; write the "
                "folder as well"
            )
        if found:
            rows[row] = found[0]
        elif _is_other_split(split_path(cell)[:-1]):
            other_splits.append(cell)
        else:
            unknown.setdefault(cell, row)
    if unknown and (not allow_unknown or len(unknown) == len(table)):
        first, row = next(iter(unknown.items()))
        listed = ", ".join(printable(name) for name in list(unknown)[:5])
        hint = nearest(split_path(first)[-1], {split_path(name)[-1] for name in source_names[:5000]})
        setting = table.sibling("allow_unknown_files")
        advice = f"set {setting}=true to leave them out" if setting else "remove these rows"
        raise UserError(
            f"{table.option}: {table.describe_row(row)}: the training examples of this dataset have no file "
            f"{show(first, quotes=False)}; {hint} ({len(unknown)} of {len(table)} rows name unknown files: {listed}"
            f"{' …' if len(unknown) > 5 else ''}; {advice})"
        )
    notes = reading_note("unknown_files", "Rows of files that the dataset does not have were left out", unknown)
    notes += reading_note("test_files", "Rows of test files were left out; test labels are the dataset's", other_splits)
    return RowMatch(rows, notes)


def _match_base_names(cells: Sequence[str], names: FileNames) -> NDArray[np.int64] | None:
    """Return the rows of files in one folder that the dataset does not have, as after an upload; None if not clear."""
    # Files of several folders may have the same names as others in the dataset.
    if len(cells) < 2 or len({split_path(cell)[:-1] for cell in cells}) > 1:
        return None
    rows = []
    for cell in cells:
        parts = split_path(cell)
        if len(parts) == 1 or _is_other_split(parts[:-1]) or names.find(cell):
            return None
        found = names.find(parts[-1]) or names.find(_UPLOADED.sub("", parts[-1]))
        if len(found) != 1:
            return None
        rows += found
    return np.array(rows, dtype=np.int64)


def _compare(
    table: LabelTable, column: str, by_index: NDArray[np.int64], by_file: NDArray[np.int64], source_names: Sequence[str]
) -> None:
    """Refuse a table whose two keys name different examples."""
    setting = table.sibling("key")
    advice = f"set {setting} to the column that is right" if setting else "remove the column that is incorrect"
    for row in np.flatnonzero(by_index != by_file).tolist():
        cell = table.columns[column][row]
        # Tables for spreadsheets have an apostrophe before names that would be formulas.
        named, actual = split_path(cell.removeprefix("'")), split_path(printable(source_names[by_index[row]]))
        overlap = min(len(named), len(actual))
        if not cell or named[-overlap:] == actual[-overlap:]:
            continue
        raise UserError(
            f"{table.option}: {table.describe_row(row)}: names the file {show(cell, quotes=False)}, but the index "
            f"{by_index[row]} is {show(source_names[by_index[row]], quotes=False)}; the table belongs to other data, or "
            f"{advice}"
        )


def check_distinct(table: LabelTable, rows: NDArray[np.int64]) -> None:
    """Refuse a table in which two rows label one example.

    Raises:
        UserError: with both rows.
    """
    first: dict[int, int] = {}
    for position, row in enumerate(rows.tolist()):
        if row == NOWHERE:
            continue
        if row in first:
            raise UserError(
                f"{table.option}: {table.describe_row(position)}: labels the same example as "
                f"{table.describe_row(first[row]).rpartition(', ')[2]}; each example needs one label, or a column "
                "`annotator` if several people labeled it"
            )
        first[row] = position


def names_of(rows: NDArray[np.int64], source_names: Sequence[str]) -> list[str]:
    """Return the first names of some source rows for messages: files if there are any, or else row numbers.

    Example:
        >>> names_of(np.array([1]), ("a.png", "b.png"))
        ['b.png']
    """
    return [printable(source_names[row]) if source_names else str(row) for row in rows[:MAX_NAMES].tolist()]
