"""Text of others, such as names of files and classes, for the terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return text in which characters that a terminal would interpret are escapes such as ``\\x1b``.

    Control and format characters could move the cursor, change colors or reverse a line; the halves of broken
    encodings cannot be printed at all.

    Examples:
        >>> printable("caf\u00e9 \\x1b[31mred\\n\\udcff")
        'caf\u00e9 \\\\x1b[31mred\\\\n\\\\udcff'
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


def printable_lines(text: str) -> str:
    """Return text of several lines, each of them `printable`.

    Examples:
        >>> printable_lines("one\\ntwo\\x07")
        'one\\ntwo\\\\x07'
    """
    return "\n".join(map(printable, text.split("\n")))


def counted(count: int, noun: str) -> str:
    """Return a number with its noun.

    Args:
        count: the number.
        noun: noun in the singular, whose plural ends in s, or in es after s, x, rch and tch.

    Example:
        >>> counted(1, "epoch"), counted(2, "table"), counted(3, "search")
        ('1 epoch', '2 tables', '3 searches')
    """
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun}{'es' if noun.endswith(('s', 'x', 'rch', 'tch')) else 's'}"


def count_runs(count: int) -> str:
    """Return a number of runs with its noun.

    Example:
        >>> count_runs(1), count_runs(2)
        ('1 run', '2 runs')
    """
    return counted(count, "run")
