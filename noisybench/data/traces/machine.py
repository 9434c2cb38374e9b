"""What a program runs on: it makes integers, shows lines, and goes wrong where it is told to."""

from __future__ import annotations

import re
from collections.abc import Sequence

LIMIT = 2_000
"""Lines that one run may show."""

DIGITS = re.compile(r"\d+")


class Unending(Exception):
    """A program does not seem to end: it shows too many lines, or makes more digits than there are random numbers."""


class Machine:
    """Makes integers, with wrong digits where it is told to, and keeps the lines that are shown.

    Args:
        wrong: ascending places of wrong digits among all digits that are made.
        digits: what each of them is instead.
        room: number of digits after which the run counts as one that does not end; 0 where none are wrong.

    Attributes:
        lines: shown so far.
        changed: how many integers were given a wrong digit.
    """

    def __init__(self, wrong: Sequence[int] = (), digits: Sequence[int] = (), room: int = 0) -> None:
        self._wrong, self._digits, self._room = [*wrong, room], digits, room
        self._place, self._next, self._free = 0, 0, self._wrong[0]
        self.changed = 0
        self.lines: list[str] = []

    def new(self, value: int) -> int:
        """The integer as it is stored: each digit from the first one that is not zero may be another one.

        Raises:
            Unending: too many digits were made.
        """
        if not value or not self._room:
            return value
        self._place = stop = self._place + (1 if -10 < value < 10 else len(str(abs(value))))
        if stop <= self._free:
            return value
        if stop > self._room:
            raise Unending
        self.changed += 1
        stored = abs(value)
        while self._free < stop:
            unit = 10 ** (stop - 1 - self._free)
            stored += (self._digits[self._next] - stored // unit % 10) * unit
            self._next += 1
            self._free = self._wrong[self._next]
        return stored if value > 0 else -stored

    def line(self, template: str, *values: int) -> Sequence[int]:
        """Show a step.

        Args:
            template: with a place for each value, such as ``{}+{}={}``.
            values: integers; a program must go on with those that are returned.

        Raises:
            Unending: too many lines were shown.
        """
        self.lines.append(template.format(*values))
        if len(self.lines) > LIMIT:
            raise Unending
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
