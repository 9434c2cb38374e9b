"""Tables of texts: the text, label, split and group of each row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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
from noisybench.data.labels.label_import import LABEL_COLUMNS, OBSERVED
from noisybench.data.labels.tables import SUFFIXES, LabelTable, header_hint, plain_text, read_table
from noisybench.data.notes import ReadingNote, reading_note
from noisybench.data.splits.names import Role
from noisybench.errors import UserError, show
from noisybench.utils.places import read_text, shown

TEXT_COLUMNS = (
    "text", "sentence", "content", "document", "review", "message", "comment", "utterance", "tweet", "headline", "abstract",
    "question", "query", "body",
)  # fmt: skip
"""Names of columns with texts."""

IDENTIFIERS = ("id", "text_id", "document_id", "doc_id", "sample_id", "example_id", "uid", "guid")
"""Names of columns that identify a text."""

LABEL_NAMES = (OBSERVED, *LABEL_COLUMNS, "intent", "topic", "sentiment")
"""Names of columns with labels."""

JSON_LINES = (".jsonl", ".ndjson")
"""Suffixes of files with one JSON object in each line."""


@dataclass(frozen=True)
class TextTable:
    """Texts of a table with their labels.

    Attributes:
        texts: text of each row, without surrounding blanks.
        labels: label of each row as text.
        names: identifier of each row; empty without a column for them.
        splits: rows of each split; all are training examples if there are no splits.
        groups: (N,) group of each row.
        empty: names of rows that were left out because they have no text.
        location: name of the labels for messages.
        notes: facts about the reading.
    """

    texts: list[str]
    labels: list[str]
    names: tuple[str, ...]
    splits: Mapping[Role, NDArray[np.int64]]
    groups: NDArray[np.str_] | None
    empty: tuple[str, ...]
    location: str
    notes: tuple[ReadingNote, ...]


def read_text_table(
    path: Path,
    parameter: str,
    on_error: Literal["raise", "skip"] = "raise",
    text: str | None = None,
    label: str | None = None,
    split: str | None = None,
    group: str | None = None,
) -> TextTable:
    """Read a table with a text and a label in each row: `.csv`, `.tsv`, `.jsonl` or `.parquet`.

    Args:
        path: the table.
        parameter: name of the parameter that holds the path, for messages.
        on_error: treatment of rows without a text.
        text: column with the texts.
        label: column with the labels.
        split: column with the splits.
        group: column with the groups.

    Raises:
        UserError: the file is damaged, a column is missing or not clear, or a row has no text.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "reviews.csv"
        ...     _ = path.write_text("Text,Label\\nWell done!,good\\n,bad\\n")
        ...     table = read_text_table(path, "dataset.path", on_error="skip")
        >>> table.texts, table.labels, table.empty
        (['Well done!'], ['good'], ('line 3',))
    """
    table = read_json_lines(path, parameter) if path.suffix.lower() in JSON_LINES else _read_table(path, parameter)
    text_column = _text_column(table, text, label)
    split_column = find_column(table, split, SPLIT_COLUMNS, "split")
    group_column = find_column(table, group, GROUP_COLUMNS, "group")
    flags = table.find(list(FLAG_COLUMNS)) if split_column is None else []
    identifiers = [name for name in table.find(IDENTIFIERS)[:1] if len(set(table.columns[name])) == len(table)]
    known = {text_column, split_column, group_column, *flags, *identifiers}
    others = [name for name in table.columns if name not in known and name.casefold() not in ROW_COLUMNS]
    label_column, notes = _label_column(table, label, others)
    kept, empty = _with_text(table, text_column, parameter, on_error)
    splits, split_notes = read_splits(table, split_column, flags, kept, [""] * len(kept))
    notes += [*split_notes, *reading_note("empty_texts", "Rows without a text were left out", empty)]
    if group_column is not None and group is None:
        noted = f"Examples with the same `{group_column}` stay in one split"
        notes.append(ReadingNote("group_column", noted, len(set(table.columns[group_column]))))
    unread = [show(name, quotes=False) for name in others if name != label_column]
    notes += reading_note("unread_columns", f"Columns of {path.name} were not read", unread)
    return TextTable(
        texts=[table.columns[text_column][row] for row in kept],
        labels=[table.columns[label_column][row] for row in kept],
        names=tuple(table.columns[identifiers[0]][row] for row in kept) if identifiers else (),
        splits=splits,
        groups=None if group_column is None else read_groups(table, group_column, kept),
        empty=tuple(empty),
        location=f"{parameter}: {shown(path)}: the column {show(label_column, quotes=False)}",
        notes=tuple(notes),
    )


def text_columns(path: Path) -> bool:
    """Return True if the first row of a table has a text and a label under usual names, so that it is a table of texts.

    Example:
        >>> text_columns(Path("/proc/nosuch.csv"))
        False
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            import pyarrow.parquet

            columns = pyarrow.parquet.read_schema(path).names
        else:
            with path.open(encoding="utf-8-sig", errors="replace") as file:
                head = file.readline(2**16)
            columns = list(json.loads(head)) if suffix in JSON_LINES else _header_cells(head)
    except Exception:  # other and damaged files, which their readers report
        return False
    table = LabelTable(path, {str(name): [] for name in columns})
    return bool(table.find(TEXT_COLUMNS)) and bool(table.find(LABEL_NAMES))


def read_json_lines(path: Path, location: str) -> LabelTable:
    """Read a file with one JSON object in each line as a table; fields that hold lists or objects are no columns.

    Raises:
        UserError: the file does not exist, or a line is no JSON object.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "a.jsonl"
        ...     _ = path.write_text('{"text": "fine", "label": 1}\\n\\n{"text": "bad", "label": 0}\\n')
        ...     dict(read_json_lines(path, "dataset.path").columns)
        {'text': ['fine', 'bad'], 'label': ['1', '0']}
    """
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    # Only line feeds end a line: JSON strings may contain other separators.
    for number, line in enumerate(read_text(path, location).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise UserError(f'{location}: {shown(path)}, line {number}: is no JSON object such as {{"text": …}}')
        rows.append(row)
        lines.append(number)
    if not rows:
        raise UserError(f"{location}: {shown(path)}: contains no rows")
    names = dict.fromkeys(name for row in rows for name in row)
    nested = {name for row in rows for name, value in row.items() if isinstance(value, list | dict)}
    columns = {name: [plain_text(row.get(name)) for row in rows] for name in names if name not in nested}
    return LabelTable(path, columns, tuple(lines))


def _read_table(path: Path, parameter: str) -> LabelTable:
    if path.suffix.lower() in SUFFIXES or not path.is_file():
        return read_table(path, parameter)
    raise UserError(
        f"{parameter}: {shown(path)}: a table of texts must be a .csv, .tsv, .jsonl or .parquet file, but got "
        f"`{path.suffix}`"
    )


def _header_cells(line: str) -> list[str]:
    """Return the names of the columns of a text table, by its most frequent separator."""
    separator = max(",;\t|", key=line.count)
    return [cell.strip().strip('"').strip() for cell in line.split(separator)]


def _text_column(table: LabelTable, given: str | None, label: str | None) -> str:
    found = find_column(table, given, TEXT_COLUMNS, "text")
    if found is None:
        listed = ", ".join(show(name, quotes=False) for name in table.columns if name != label)
        raise UserError(
            f"dataset.text: {shown(table.path)} has no column of texts, but {listed}; set dataset.text to the column with the "
            f"texts{header_hint(table)}"
        )
    return found


def _label_column(table: LabelTable, given: str | None, others: Sequence[str]) -> tuple[str, list[ReadingNote]]:
    """Return the column of the labels, with a note if no name says so."""
    if given is not None:
        return table.column(given, "dataset.label"), []
    found = [name for name in table.find(LABEL_NAMES) if name in others]
    candidates = found or list(others)
    if len(candidates) != 1:
        columns = ", ".join(show(name, quotes=False) for name in candidates) or "no other column"
        raise UserError(
            f"dataset.label: {shown(table.path)} has {columns}; set dataset.label to the column with the classes"
        )
    note = ReadingNote("label_column", f"Classes were read from the column `{candidates[0]}`", len(table))
    return candidates[0], [] if found else [note]


def _with_text(
    table: LabelTable, column: str, parameter: str, on_error: Literal["raise", "skip"]
) -> tuple[list[int], list[str]]:
    """Return the rows with a text, and the names of those without one."""
    empty = [row for row, text in enumerate(table.columns[column]) if not text.strip()]
    if empty and (on_error == "raise" or len(empty) == len(table)):
        raise UserError(
            f"{parameter}: {table.describe_row(empty[0])}: has no {show(column, quotes=False)} ({len(empty)} of {len(table)} "
            "rows have none); remove these rows, or set dataset.on_error=skip to leave them out"
        )
    left_out = set(empty)
    named = [table.describe_row(row).rpartition(", ")[2] for row in empty]
    return [row for row in range(len(table)) if row not in left_out], named
