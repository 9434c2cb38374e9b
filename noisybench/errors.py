"""Mistakes that a user can mend, and how they are told."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something in the input is wrong; each problem names the place, what is allowed and what to do.

    The command line prints the problems without a traceback and exits with status 2.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class TrainingError(Exception):
    """A run broke while training, for a reason that its message explains without a traceback."""


class StoreUnavailable(UserError):
    """The store does not answer, or does not take records. What is trained is kept, and sent by the next attempt."""


def nearest(name: str, known: Iterable[str]) -> str:
    """End of an error message about an unknown name: the nearest known ones, or all of them.

    Args:
        name: what was given.
        known: what is allowed.

    Returns:
        For example ``"did you mean `elr`?"`` or ``"known: a, b, c"``.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.55)
    if close:
        return "did you mean " + " or ".join(f"`{each}`" for each in close) + "?"
    return "known: " + ", ".join(names) if names else "there are none"
