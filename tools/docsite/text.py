"""Markdown from docstrings, help texts and tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_CODE = re.compile(r"(``.+?``|`[^`]+`)", re.S)


def prose(text: str) -> str:
    """Return plain text with code spans as Markdown, in which nothing else has a meaning.

    >>> prose("N(m, s**2) and <p, t>, see ``rate`` and `x*y`")
    'N(m, s\\\\*\\\\*2) and &lt;p, t>, see `rate` and `x*y`'
    """
    parts = _CODE.split(text)
    parts[::2] = [
        # An underscore between letters has no meaning in Markdown, and neither has a star that begins an item of a list.
        re.sub(
            r"(?<!^)(?<!\n)[*\[\]]|(?<!\w)_|_(?!\w)",
            r"\\\g<0>",
            part.replace("&", "&amp;").replace("<", "&lt;").replace(" +- ", " ± "),
        )
        for part in parts[::2]
    ]
    parts[1::2] = [f"`{part.strip('`')}`" for part in parts[1::2]]
    return "".join(parts)


def docstring(text: str) -> str:
    r"""Return a docstring as Markdown: paragraphs, lists, and examples as code blocks.

    >>> docstring("One line.\n\n>>> 1 + 1\n2")
    'One line.\n\n```python\n>>> 1 + 1\n2\n```'
    """
    blocks = []
    for block in re.split(r"\n\s*\n", text.strip()):
        if block.lstrip().startswith(">>>"):
            blocks.append(f"```python\n{block}\n```")
        elif all(line.startswith("    ") for line in block.splitlines()):
            code = "\n".join(line[4:] for line in block.splitlines())
            blocks.append(f"```text\n{code}\n```")
        elif block.strip() in ("Example:", "Examples:"):
            continue
        else:
            blocks.append(prose(block))
    return "\n\n".join(blocks)


def cell(value: object) -> str:
    """Return a value as one cell of a table. Bars in code spans separate no cells, and a backslash would be visible there.

    >>> cell("a | b\\n`int | None`")
    'a \\\\| b `int | None`'
    """
    parts = _CODE.split(str(value))
    parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
    return " ".join("".join(parts).split())


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; empty without rows.

    >>> print(table(["a", "b"], [[1, "x|y"]]))
    | a | b |
    | --- | --- |
    | 1 | x\\|y |
    """
    lines = [f"| {' | '.join(cell(value) for value in row)} |" for row in rows]
    if not lines:
        return ""
    return "\n".join([f"| {' | '.join(columns)} |", f"| {' | '.join('---' for _ in columns)} |", *lines])


def code(value: object) -> str:
    """Return a value as a code span; empty text stays empty."""
    return f"`{value}`" if str(value) else ""


def command(line: str) -> str:
    """Return a command line as a code block."""
    return f"```bash\n{line}\n```"
