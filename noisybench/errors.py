"""Exceptions for user errors, failed runs and unavailable stores."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable

MAX_NAMES_LENGTH = 1000
"""Largest number of characters of a list of known names; some libraries know a thousand."""


class UserError(Exception):
    """Invalid input; each problem names its location, the value, what is allowed and what to do.

    The command line prints the problems without a traceback and exits with status 2.

    Attributes:
        problems: one message per problem.

    Example:
        >>> UserError("seed: must be at least 0", "noise: unknown noise model `flip`").problems
        ['seed: must be at least 0', 'noise: unknown noise model `flip`']
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class InvalidValue(UserError, ValueError):
    """A `UserError` that is a `ValueError` as well, which the contract of scikit-learn's estimators asks for."""


class TrainingError(Exception):
    """A run failed during training for a reason that its message explains without a traceback."""


class Interrupted(Exception):
    """The user asked to stop; the run can be resumed from its checkpoint."""


class StoreUnavailable(UserError):
    """The tracking store cannot be reached or written.

    Trained results are kept in the working folder; the next attempt uploads them.
    """


class CodeChanged(UserError):
    """The source code of a run is not the one that its command has planned to run."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of an error message about an unknown name: the nearest known names, or all of them.

    Args:
        name: the unknown name.
        known: allowed names.

    Example:
        >>> nearest("elrr", ["elr", "gce"])
        'did you mean `elr`?'
        >>> nearest("xyz", ["elr", "gce"])
        'known: elr, gce'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.55)
    if close:
        return "did you mean " + " or ".join(f"`{candidate}`" for candidate in close) + "?"
    listed = names
    while len(", ".join(listed)) > MAX_NAMES_LENGTH:
        listed = listed[: len(listed) // 2]
    rest = f" and {len(names) - len(listed):,} more" if len(listed) < len(names) else ""
    return "known: " + ", ".join(listed) + rest if names else "there are none"


def show(value: object, quotes: bool = True, limit: int = 80) -> str:
    """Return a value for a message: in one line, with control characters escaped, and shortened if it is long.

    Args:
        value: any value; NumPy numbers are shown as plain ones.
        quotes: put text in the quotes of Python; otherwise text is set in backticks, as names are.
        limit: largest number of characters.

    Example:
        >>> show("a"), show("a", quotes=False), show([1, "b"]), show("x" * 200, limit=10)
        ("'a'", '`a`', "[1, 'b']", "'xxxx…xxx'")
    """
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", None) == 0:
        value = item()
    text = repr(str(value)) if isinstance(value, os.PathLike) else repr(value)
    if isinstance(value, str) and not quotes:
        text = "`" + (repr(str(value))[1:-1] if not value.isprintable() else str(value)) + "`"
    return shorten(text, limit)


def shorten(text: str, limit: int) -> str:
    """Return text with its middle left out if it is longer than `limit` characters.

    Example:
        >>> shorten("abcdefghij", 5)
        'ab…ij'
    """
    if len(text) <= limit:
        return text
    half = (limit - 1) // 2
    return text[: limit - 1 - half] + "…" + text[len(text) - half :]
