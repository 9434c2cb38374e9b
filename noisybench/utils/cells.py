"""CSV tables, and their cells as spreadsheets open them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from noisybench.errors import UserError


def plain_cell(text: str) -> str:
    """Return text for a cell of a table so that spreadsheets do not read it as a formula.

    Examples:
        >>> plain_cell("=1+1")
        "'=1+1"
    """
    # A leading apostrophe makes spreadsheets read a cell as text.
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def text_of_cell(cell: str) -> str:
    """Return the text of which `plain_cell` made a cell; a text may begin with an apostrophe of its own.

    Examples:
        >>> text_of_cell("'=1+1"), text_of_cell("'best' by far")
        ('=1+1', "'best' by far")
    """
    text = cell.removeprefix("'")
    return text if plain_cell(text) == cell else cell


def write_rows(columns: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a CSV table with a header, which `read_rows` reads.

    Examples:
        >>> write_rows(["name", "date"], [["quickstart", "2026-01-31"]])
        'name,date\\nquickstart,2026-01-31\\n'
    """
    text = io.StringIO()
    # The default line ending of csv is that of Windows, on every system.
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def read_rows(text: str, columns: Sequence[str], what: str) -> list[dict[str, str]]:
    """Return the rows of a CSV table that has exactly some columns.

    Args:
        text: the table.
        columns: names of the columns, in their order.
        what: content of the table in the plural, for the message.

    Raises:
        UserError: the table has other columns, or a row with more or fewer cells.

    Examples:
        >>> read_rows("name,date\\nquickstart,2026-01-31\\n", ["name", "date"], "entries")
        [{'name': 'quickstart', 'date': '2026-01-31'}]
    """
    reader = csv.DictReader(io.StringIO(text))
    if list(reader.fieldnames or ()) != list(columns):
        given = ", ".join(reader.fieldnames or ()) or "none"
        raise UserError(f"expected a table of {what} with the columns {', '.join(columns)}, but got {given}")
    try:
        rows = list(reader)
    except csv.Error as error:
        raise UserError(f"expected a table of {what}, but line {reader.line_num} is not valid CSV ({error})") from None
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise UserError(
                f"expected {len(columns)} cells in each row of a table of {what}, but row {number} has others"
            )
    return rows
