"""Blocks as text: tables of Markdown, and comments in the header of a suite."""

from __future__ import annotations

import textwrap

from blocks.entry import Block, Cells

HEADER_WIDTH = 116
MARKDOWN_WIDTH = 160


def markdown(block: Block) -> str:
    """Return a block as Markdown."""
    parts = []
    for text, cells in block:
        parts.append(textwrap.fill(text, MARKDOWN_WIDTH, break_long_words=False))
        if cells:
            rule = "| --- " * len(cells[0]) + "|"
            titles, *rows = ["| " + " | ".join(row) + " |" for row in cells]
            parts.append("\n".join([titles, rule, *rows]))
    return "\n\n".join(parts) + "\n"


def header(block: Block) -> str:
    """Return a block as lines of a header, which are comments."""
    lines = []
    for text, cells in block:
        lines += textwrap.wrap(text.replace("bold: best rank group", "*: best rank group"), HEADER_WIDTH)
        lines += plain_table(cells) if cells else []
    return "".join(f"#          {line}\n" for line in lines)


def plain_table(cells: Cells) -> list[str]:
    """Return a table as aligned lines; if it is too wide, with numbers for long titles, or with one paragraph per row.

    >>> plain_table([["stack", "pair_flip (40 %)"], ["elr", "**86.7**"]])
    ['stack  pair_flip (40 %)', 'elr               86.7*']
    """
    # A star after a number takes the place of bold.
    plain = [[f"{cell.strip('*')}*" if cell.startswith("**") else f"{cell} " for cell in row] for row in cells]
    lines = _aligned(plain)
    if max(map(len, lines)) <= HEADER_WIDTH:
        return lines
    titles, *rows = plain
    places = [place for place, title in enumerate(titles) if len(title) > 1 + max(len(row[place]) for row in rows)]
    short = [f"[{places.index(place) + 1}] " if place in places else title for place, title in enumerate(titles)]
    lines = _aligned([short, *rows])
    if max(map(len, lines)) <= HEADER_WIDTH:
        legend = "; ".join(f"[{number}] {titles[place].strip()}" for number, place in enumerate(places, 1))
        return [*textwrap.wrap(f"{legend}.", HEADER_WIDTH), *lines]
    paragraphs = (
        f"{row[0].strip()} "
        + "; ".join(f"{title.strip()}: {cell.strip()}" for title, cell in zip(titles[1:], row[1:], strict=True))
        for row in rows
    )
    return [line for text in paragraphs for line in textwrap.wrap(f"- {text}.", HEADER_WIDTH, subsequent_indent="  ")]


def _aligned(rows: Cells) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        " ".join(
            [name.ljust(widths[0]), *(value.rjust(width) for value, width in zip(values, widths[1:], strict=True))]
        ).rstrip()
        for name, *values in rows
    ]
