"""Tables of labels as annotation tools and spreadsheets write them, read as text.

No cell is converted here: `1`, `1.0` and `001` stay what they are until the classes decide what they mean.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from noisybench.data.images.decoding import IMAGE_SUFFIXES
from noisybench.data.parquet.columns import class_names_of
from noisybench.errors import UserError, nearest, show
from noisybench.utils.files import first_line
from noisybench.utils.places import check_file, shown

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
"""Characters that separate the columns of a text table, by name."""

TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
SUFFIXES = (*TEXT_SUFFIXES, ".parquet")
"""Suffixes of tables."""

ROW_NUMBERS = "Unnamed: 0"
"""Name that pandas gives to a first column without a name, which holds the numbers of its rows."""

MAX_CELL = 2**20
"""Largest number of characters of a cell; a quotation mark that is never closed makes one cell of the rest of the file."""


@dataclass(frozen=True)
class LabelTable:
    """Columns of a table as text.

    Attributes:
        path: the file.
        columns: text of each row by column; empty text where there is no value.
        lines: line of each row in the file, counted from 1; empty if the file has no lines.
        option: parameter or argument that names the file, for messages.
    """

    path: Path
    columns: Mapping[str, Sequence[str]]
    lines: tuple[int, ...] = ()
    option: str = "noise.path"

    @property
    def name(self) -> str:
        """Option and file for messages, such as ``noise.path: labels.csv``."""
        return f"{self.option}: {shown(self.path)}"

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def describe_row(self, row: int) -> str:
        """Return the location of a row for messages, such as ``labels.csv, line 2``."""
        return f"{shown(self.path)}, {f'line {self.lines[row]}' if self.lines else f'row {row}'}"

    def sibling(self, parameter: str) -> str | None:
        """Return the full name of a parameter beside the one that names the file; None for an argument, which has none.

        Example:
            >>> LabelTable(Path("labels.csv"), {}).sibling("key")
            'noise.key'
        """
        return f"{self.option.removesuffix('path')}{parameter}" if self.option.endswith(".path") else None

    def find(self, names: Sequence[str]) -> list[str]:
        """Return the columns that have one of the given names, in the order of the names.

        Case, and blanks or hyphens in place of underscores, do not matter.
        """
        return [column for name in names for column in self.columns if plain_column(column) == name]

    def column(self, name: str, parameter: str) -> str:
        """Return the name of a column that the user gives.

        Raises:
            UserError: the table does not have it.
        """
        if name in self.columns:
            return name
        raise UserError(
            f"{parameter}: {shown(self.path)} has no column {show(name, quotes=False)}; {nearest(name, self.columns)}"
        )


def plain_column(name: str) -> str:
    """Return the name of a column in lower case, with underscores.

    Example:
        >>> plain_column("File Name")
        'file_name'
    """
    return name.casefold().replace(" ", "_").replace("-", "_")


def read_table(path: Path, location: str = "") -> LabelTable:
    """Read a table with a header: text separated by commas, semicolons, tabs or vertical bars, or parquet.

    Text is UTF-8, or UTF-16 with a byte order mark; the header decides the separator. Blanks around cells are removed.

    Args:
        path: the file; its suffix is one of `SUFFIXES`.
        location: name of the parameter that holds the path, for messages.

    Raises:
        UserError: the file does not exist, is damaged, has no header or rows of different lengths, or its separator is
            not clear.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "labels.csv"
        ...     _ = path.write_text("\\ufefffile; label\\na.png;cat\\nb.png; 1.0\\n", encoding="utf-8")
        ...     dict(read_table(path).columns)
        {'file': ['a.png', 'b.png'], 'label': ['cat', '1.0']}
    """
    check_file(path, location)
    prefix = f"{location}: {shown(path)}" if location else shown(path)
    option = location or LabelTable.option
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return LabelTable(path, _read_parquet(path, prefix), option=option)
    if suffix in TEXT_SUFFIXES:
        columns, lines = parse_table(_decode(path.read_bytes(), prefix), prefix)
        return LabelTable(path, columns, lines, option)
    hint = "; save the sheet as CSV in UTF-8" if suffix in (".xls", ".xlsx", ".ods") else ""
    raise UserError(f"{prefix}: a table must be a {', '.join(SUFFIXES)} file, but got `{path.suffix}`{hint}")


def parse_table(text: str, prefix: str) -> tuple[dict[str, list[str]], tuple[int, ...]]:
    """Return the columns of a text table, and the line of each row.

    Args:
        text: the content of the file.
        prefix: name of the file for messages.

    Raises:
        UserError: see `read_table`.

    Example:
        >>> parse_table('file\\tlabel\\n"a\\tb.png"\\tcat\\n', "x.csv")
        ({'file': ['a\\tb.png'], 'label': ['cat']}, (2,))
    """
    declared, text, first = _declared_separator(text)
    header_line = next((line for line in text.splitlines() if line.strip()), "")
    separator = declared or _separator(header_line, prefix)
    header: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    csv.field_size_limit(MAX_CELL)
    try:
        line = first
        for cells in reader:
            start, line = line, first + reader.line_num
            if not header:
                header = _header(cells, prefix) if any(cells) else []
                continue
            # A blank line in a table of one column is a row without a value; elsewhere it is no row.
            if not cells and len(header) > 1:
                continue
            cells = [cell.strip() for cell in cells] or [""]
            if len(cells) != len(header):
                raise UserError(
                    f"{prefix}, line {start}: has {len(cells)} cells, but the header has {len(header)} columns "
                    f"({', '.join(header)}); put cells that contain a {DELIMITERS[separator]} in quotation marks"
                )
            rows.append(cells)
            lines.append(start)
    except csv.Error as error:
        raise UserError(f"{prefix}, line {first + reader.line_num - 1}: {error}; export the table again") from None
    while rows and not any(rows[-1]):
        del rows[-1], lines[-1]
    if not header or not rows:
        raise UserError(
            f"{prefix}: contains no rows; a table has a header such as `file,label`, and a line for each row"
        )
    if not header[0] and len(header) > 1 and ROW_NUMBERS not in header:
        header[0] = ROW_NUMBERS
    columns = {name: [row[position] for row in rows] for position, name in enumerate(header) if name}
    for position, name in enumerate(header):
        # Programs write an unnamed first column of row numbers, or a separator at the end of every line.
        if not name and position not in (0, len(header) - 1):
            raise UserError(f"{prefix}: column {position + 1} has no name in the header; name or remove it")
    return columns, tuple(lines)


def header_hint(table: LabelTable, class_names: Collection[str] = ()) -> str:
    """Return the end of a message about missing columns if the first line is a row of labels or files.

    Example:
        >>> header_hint(LabelTable(Path("labels.csv"), {"1.png": ["2.png"], "cat": ["dog"]}))
        '; its first line is read as the names of the columns: add a line such as `file,label` before it'
        >>> header_hint(LabelTable(Path("labels.csv"), {"picture": ["2.png"]}))
        ''
    """
    if any(name in class_names or name.lower().endswith(IMAGE_SUFFIXES) for name in table.columns):
        return "; its first line is read as the names of the columns: add a line such as `file,label` before it"
    return ""


def _decode(data: bytes, prefix: str) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding, name = "utf-16", "UTF-16"
    else:
        encoding, name = "utf-8-sig", "UTF-8"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{prefix}, line {line}: not encoded in {name}; save the table as CSV in UTF-8") from None
    if "\0" in text:
        raise UserError(
            f"{prefix}: contains null characters, so it is no text in UTF-8; save the table as CSV in UTF-8"
        )
    return text


def _declared_separator(text: str) -> tuple[str, str, int]:
    """Return the separator that a first line `sep=;` declares for Excel, the other lines and the number of the first."""
    line, _, rest = text.partition("\n")
    stripped = line.rstrip("\r\n")
    if len(stripped) == 5 and stripped.lower().startswith("sep=") and stripped[4] in DELIMITERS:
        return stripped[4], rest, 2
    return "", text, 1


def _separator(header: str, prefix: str) -> str:
    """Return the separator of a header; a comma if there is only one column."""
    outside, quoted = [], False
    for character in header:
        quoted ^= character == '"'
        if not quoted:
            outside.append(character)
    present = [separator for separator in DELIMITERS if separator in outside]
    if len(present) > 1:
        names = " and ".join(f"{DELIMITERS[separator]}s" for separator in present)
        raise UserError(
            f"{prefix}: the header {show(header)} contains {names}, so it is unclear what separates the columns; put names "
            "that contain one of them in quotation marks"
        )
    return present[0] if present else ","


def _header(cells: Sequence[str], prefix: str) -> list[str]:
    names = [unicodedata.normalize("NFC", cell.strip()) for cell in cells]
    if names[0].startswith("#"):
        raise UserError(f"{prefix}: the first line is {show(names[0])}; comment lines are not supported, remove them")
    twice = [name for name in names if name and names.count(name) > 1]
    if twice:
        raise UserError(f"{prefix}: has two columns {show(twice[0], quotes=False)}; rename or remove one")
    return names


def _read_parquet(path: Path, prefix: str) -> dict[str, list[str]]:
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
        columns = {name: table[name] for name in table.column_names}
        return {
            unicodedata.normalize("NFC", name.strip()): _cells(column.to_pylist(), class_names_of(table.schema, name))
            for name, column in columns.items()
            if not _has_fields(column.type)
        }
    except UserError as error:
        raise UserError(f"{prefix}: {error}") from None
    except Exception as error:  # readers of columns raise anything on damaged files
        raise UserError(f"{prefix}: cannot be read ({first_line(error)}); export it again") from None


def _cells(values: Sequence[object], class_names: Sequence[str] | None) -> list[str]:
    """Return values as text; integers for which the file has names become these."""
    if class_names is None:
        return [plain_text(value) for value in values]
    unknown = [value for value in values if isinstance(value, int) and not 0 <= value < len(class_names)]
    # The library `datasets` writes -1 for no label.
    if set(unknown) - {-1}:
        raise UserError(f"the label {next(value for value in unknown if value != -1)} has no name in the file")
    return [class_names[value] if isinstance(value, int) and value >= 0 else "" for value in values]


def _has_fields(kind: object) -> bool:
    """Return True for columns of structures, such as images, which are no labels."""
    import pyarrow.types as types

    return bool(types.is_struct(kind) or types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind))


def plain_text(value: object) -> str:
    """Return a value of a typed column as text; empty for a missing one.

    Example:
        >>> plain_text(3), plain_text(0.5), plain_text(float("nan")), plain_text(b"cat ")
        ('3', '0.5', '', 'cat')
    """
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip()
