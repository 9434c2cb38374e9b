"""Cells of tables that spreadsheets open."""

from __future__ import annotations


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
