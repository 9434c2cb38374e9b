"""What a program runs on: it makes integers, shows lines, and goes wrong where it is told to."""

from __future__ import annotations

import re
from collections.abc import Sequence

LIMIT = 20_000
"""Integers that one run may make."""

DIGITS = re.compile(r"\d+")


class Unending(Exception):
    """A program does not seem to end: it makes too many integers, or more digits than there are random numbers."""


class Machine:
    """Makes integers, with wrong digits where it is told to, and keeps the lines that are shown.

    Args:
        wrong: ascending places of wrong digits among all digits that are made.
        digits: what the digit at each place is instead; a run that makes more digits counts as one that does not end.

    Attributes:
        lines: shown so far.
        changed: how many integers were given a wrong digit.
    """

    def __init__(self, wrong: Sequence[int] = (), digits: Sequence[int] = ()) -> None:
        self._wrong, self._digits, self._room = wrong, digits, len(digits)
        self._made, self._place, self._next = 0, 0, 0
        self._next_wrong = wrong[0] if len(wrong) else self._room
        self.changed = 0
        self.lines: list[str] = []

    def new(self, value: int) -> int:
        """The integer as it is stored: each digit from the first one that is not zero may be another one.

        Raises:
            Unending: too many were made.
        """
        self._made += 1
        if self._made > LIMIT:
            raise Unending
        if not value or not self._room:
            return value
        place = self._place
        self._place = place + (1 if -10 < value < 10 else len(str(abs(value))))
        if self._place > self._room:
            raise Unending
        if self._next_wrong >= self._place:
            return value
        text = list(str(abs(value)))
        while self._next_wrong < self._place:
            text[self._next_wrong - place] = str(self._digits[self._next_wrong])
            self._next += 1
            self._next_wrong = int(self._wrong[self._next]) if self._next < len(self._wrong) else self._room
        self.changed += 1
        return int("".join(text)) * (1 if value > 0 else -1)

    def line(self, template: str, *values: int) -> Sequence[int]:
        """Show a step.

        Args:
            template: with a place for each value, such as ``{}+{}={}``.
            values: integers; a program must go on with those that are returned.
        """
        self.lines.append(template.format(*values))
        return values


class Follower(Machine):
    """Goes along a run that was written down: each step is computed from what was written, not from what it should have been.

    Args:
        written: lines.

    Attributes:
        right: for each written line, whether it follows from the prompt and the lines before it.
    """

    def __init__(self, written: Sequence[str]) -> None:
        super().__init__()
        self._written = written
        self.right: list[bool] = []

    @property
    def complete(self) -> bool:
        """Whether as many lines were written as the run has."""
        return len(self.right) == len(self._written) == len(self.lines)

    def line(self, template: str, *values: int) -> Sequence[int]:
        """Hold the next written line against the values; the run goes on with the written ones, where they can be read."""
        super().line(template, *values)
        place = len(self.right)
        if place >= len(self._written):
            return values
        exact, written = self.lines[-1], self._written[place]
        if written == exact:
            self.right.append(True)
            return values
        found = numbers_like(exact, written)
        self.right.append(found is not None and found == numbers(exact))
        return values if found is None else found


def numbers(text: str) -> list[int]:
    """All whole numbers in a text."""
    return [int(each) for each in DIGITS.findall(text)]


def numbers_like(exact: str, written: str) -> list[int] | None:
    """The numbers of a written text, if all else in it is as in the exact one."""
    return numbers(written) if DIGITS.split(exact) == DIGITS.split(written) else None
