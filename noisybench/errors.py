"""Exceptions for user errors, failed runs and unavailable stores."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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


class TrainingError(Exception):
    """A run failed during training for a reason that its message explains without a traceback."""


class Interrupted(Exception):
    """The user asked to stop; the run can be resumed from its checkpoint."""


class StoreUnavailable(UserError):
    """The tracking store cannot be reached or written.

    Trained results are kept in the working folder; the next attempt uploads them.
    """


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
    return "known: " + ", ".join(names) if names else "there are none"
