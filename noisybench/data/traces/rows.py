"""Rows of files of text examples: JSON lines, a JSON array, or parquet."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisybench.data.images.unread_files import data_files_below, unread_files, visible_entries
from noisybench.data.notes import ReadingNote
from noisybench.data.splits.names import find_splits
from noisybench.errors import UserError, show
from noisybench.utils.files import first_line
from noisybench.utils.places import check_file, read_text, shown

SUFFIXES = (".jsonl", ".parquet", ".json")
"""Suffixes of the files that are read from a folder; `.json` only if its name is that of a split."""

MAX_DEPTH = 100
"""Largest number of levels of a row; Python cannot write all that it can read."""

BYTE_ORDER_MARK = "\ufeff"
ESCAPED_SURROGATE = re.compile(r"\\u[dD][89abAB]|\\u[dD][c-fC-F]")
"""An escape of half a character outside of the basic plane; two of them make one character."""


@dataclass(frozen=True)
class Row:
    """One example of a file.

    Attributes:
        location: file and number of the row, for messages.
        name: number of the row, such as ``line 3``.
        fields: values by field name.
    """

    location: str
    name: str
    fields: dict[str, Any]

    def text(self, field: str) -> str:
        """Return the text of a field.

        Raises:
            UserError: the row lacks the field, or it is not text.
        """
        if not isinstance(self.fields.get(field), str):
            raise UserError(f"{self.location} lacks the text `{field}`; it has {', '.join(self.fields) or 'no fields'}")
        return str(self.fields[field])


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a file of JSON lines, of a JSON array, or of a parquet file; empty lines are skipped.

    Args:
        path: file in UTF-8, or a file whose name ends in ``.parquet``.

    Raises:
        UserError: the file does not exist or is damaged, or a row is not one object with distinct fields.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "traces.jsonl"
        ...     _ = path.write_text('{"prompt": "1+1", "response": "2"}')
        ...     [(row.name, row.text("response")) for row in read_rows(path)]
        [('line 1', '2')]
    """
    if path.suffix.lower() == ".parquet":
        objects: Iterator[tuple[str, Any]] = _parquet_rows(path)
    else:
        text = read_text(path).removeprefix(BYTE_ORDER_MARK)
        objects = _array_entries(path, text) if text.lstrip().startswith("[") else _lines(path, text)
    rows = []
    for name, fields in objects:
        if not isinstance(fields, dict):
            raise UserError(
                f"{path}: {name} must be an object with named fields, but is of the type {type(fields).__name__}"
            )
        if _is_deeper(fields, MAX_DEPTH):
            raise UserError(f"{path}: {name} is nested more than {MAX_DEPTH} levels deep; remove the field")
        rows.append(Row(f"{path}: {name}", name, fields))
    return rows


def read_folder(folder: Path) -> tuple[list[Row], tuple[ReadingNote, ...]]:
    """Read the files of a folder: those named after splits, such as `train.jsonl` and `test.jsonl`, or else all.

    Rows without a field `split` get that of their file. Returns the rows, and a note about files that were not read.

    Raises:
        UserError: there is no such file, two files stand for the same rows, or a file is damaged.
    """
    files = [file for file in visible_entries(folder) if file.suffix.lower() in SUFFIXES and not file.is_dir()]
    stems = [file.stem for file in files]
    for file in files:
        if stems.count(file.stem) > 1:
            raise UserError(
                f"{shown(folder)}: there are several files `{file.stem}`; remove all but one, or name one file"
            )
    named = find_splits(stems, shown(folder))
    roles = {name: role for role, names in named.names.items() for name in names}
    read = [file for file in files if (file.stem in roles if roles else file.suffix.lower() != ".json")]
    if not read:
        raise UserError(
            f"{shown(folder)}: has no file of traces ({', '.join(SUFFIXES[:2])}); name a file with dataset.path"
        )
    rows = []
    for file in read:
        split = {"split": roles[file.stem]} if roles else {}
        rows += [Row(row.location, f"{file.name}: {row.name}", {**split, **row.fields}) for row in read_rows(file)]
    return rows, unread_files([file for file in data_files_below(folder) if file not in read], folder)


def _lines(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    # Not `splitlines`, which would also break lines at U+2028 and similar characters, which JSON allows within
    # strings.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            location = f"{path}: line {number}"
            yield f"line {number}", _parse(line, location, "each line must hold one object")


def _array_entries(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    entries = _parse(text, str(path), "a file that begins with `[` must hold one array of objects")
    for number, entry in enumerate(entries, 1):
        yield f"entry {number}", entry


def _parse(text: str, location: str, expected: str) -> Any:
    """Parse JSON strictly: no repeated field, no number that JSON cannot write, no half of a character.

    Raises:
        UserError: the text is anything else.
    """
    try:
        value = json.loads(
            text, object_pairs_hook=_distinct_fields, parse_constant=_refuse_constant, parse_float=_finite
        )
        if ESCAPED_SURROGATE.search(text):
            # Two halves make one character when they are decoded; a half that is left has no encoding.
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise UserError(
            f"{location} has {half}, half of a character without the other half; write the whole character"
        ) from None
    except RecursionError:
        raise UserError(f"{location} is nested too deeply; {expected}") from None
    except ValueError as error:
        raise UserError(f"{location} is not JSON ({first_line(error)}); {expected}") from None
    return value


def _is_deeper(value: Any, depth: int) -> bool:
    """Return whether a value has more than a number of levels; level by level, since recursion would have a limit too."""
    level = [value]
    for _ in range(depth + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _distinct_fields(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {show(repeated, quotes=False)} occurs twice in one object")
    return fields


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a value of JSON; write null")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large a number")
    return value


def _parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the rows of a parquet file; missing values are left out."""
    import pyarrow.parquet

    try:
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(check_file(path)).to_pylist()
    except UserError:
        raise
    except Exception as error:  # the parser raises anything on damaged files
        raise UserError(f"{shown(path)}: cannot be read ({first_line(error)}); export it again") from None
    for number, fields in enumerate(rows, 1):
        kept = {name: _as_json(value, f"{path}: row {number}", name) for name, value in fields.items()}
        yield f"row {number}", {name: value for name, value in kept.items() if value is not None}


def _as_json(value: Any, location: str, field: str) -> Any:
    """Return a value of a parquet file as JSON has it.

    Raises:
        UserError: JSON has no such value.
    """
    if isinstance(value, dict):
        return {str(name): _as_json(each, location, field) for name, each in value.items()}
    if isinstance(value, list):
        return [_as_json(each, location, field) for each in value]
    if isinstance(value, float):
        # A column with gaps has NaN where JSON has nothing.
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise UserError(f"{location}: the column `{field}` holds {type(value).__name__}, which is not text; remove it")
