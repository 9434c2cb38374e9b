"""Recording and replaying of program runs, with optional errors in the computed integers."""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_LINES = 2_000
"""Largest number of lines in one trace."""

DIGITS = re.compile(r"\d+")


class NonTerminating(Exception):
    """A program run exceeds its limit of trace lines, computed digits or executed lines of Python."""


class TraceRecorder:
    """Record the trace of a program run, and replace digits of its integers at given positions.

    A program passes every integer that noise may change through `integer`, and every step of its trace through `emit`,
    and continues with the integers that these return.

    Args:
        error_positions: ascending positions of replaced digits, counted over all digits that the run computes.
        new_digits: the digit to store at each of these positions; it may equal the original one.
        max_digits: number of digits after which the run counts as non-terminating; 0 disables errors and the limit.

    Attributes:
        lines: lines of the trace so far.
        num_changed: number of integers in which a digit was replaced.

    Example:
        >>> recorder = TraceRecorder()
        >>> _, _, total = recorder.emit("{}+{}={}", 2, 3, recorder.integer(2 + 3))
        >>> recorder.lines, total
        (['2+3=5'], 5)
        >>> TraceRecorder(error_positions=[1], new_digits=[9], max_digits=10).integer(47)
        49
    """

    def __init__(
        self, error_positions: Sequence[int] = (), new_digits: Sequence[int] = (), max_digits: int = 0
    ) -> None:
        # The limit is the last error position: one comparison per integer detects errors and the limit, and never reads
        # past the end of the list.
        self._error_positions, self._new_digits, self._max_digits = (
            [*error_positions, max_digits],
            new_digits,
            max_digits,
        )
        self._num_digits, self._num_errors, self._next_error = 0, 0, self._error_positions[0]
        self.num_changed = 0
        self.lines: list[str] = []

    def integer(self, value: int) -> int:
        """Return an integer as the noisy run stores it; zero has no digit that can be replaced.

        Raises:
            NonTerminating: the run has computed more than `max_digits` digits.
        """
        if not value or not self._max_digits:
            return value
        # Positions count digits from the most significant one. The common case of one digit avoids a string.
        self._num_digits = stop = self._num_digits + (1 if -10 < value < 10 else len(str(abs(value))))
        if stop <= self._next_error:
            return value
        if stop > self._max_digits:
            raise NonTerminating
        self.num_changed += 1
        # Digits are replaced in the absolute value, since `//` and `%` of negative numbers round down.
        stored = abs(value)
        # The unit of a position is the power of ten that it has within this integer.
        while self._next_error < stop:
            unit = 10 ** (stop - 1 - self._next_error)
            stored += (self._new_digits[self._num_errors] - stored // unit % 10) * unit
            self._num_errors += 1
            self._next_error = self._error_positions[self._num_errors]
        return stored if value > 0 else -stored

    def emit(self, template: str, *values: int) -> Sequence[int]:
        """Append a line to the trace and return the values that the program must continue with.

        Args:
            template: format string with one placeholder per value, such as ``{}+{}={}``.
            values: integers of the line.

        Raises:
            NonTerminating: the trace has more than `MAX_LINES` lines.
        """
        self.lines.append(template.format(*values))
        if len(self.lines) > MAX_LINES:
            raise NonTerminating
        return values


class TraceReplayer(TraceRecorder):
    """Replay a written trace: compute every step from the values written before it, and compare it with the written line.

    Args:
        written_lines: lines of the trace to check.

    Attributes:
        line_checks: for each written line, whether it follows from the prompt and the written lines before it.

    Example:
        >>> replayer = TraceReplayer(["2+3=6"])
        >>> replayer.emit("{}+{}={}", 2, 3, 5)  # the program continues with the written 6
        [2, 3, 6]
        >>> replayer.line_checks
        [False]
    """

    def __init__(self, written_lines: Sequence[str]) -> None:
        super().__init__()
        self._written_lines = written_lines
        self.line_checks: list[bool] = []

    @property
    def is_complete(self) -> bool:
        """Whether the written trace has exactly as many lines as the run."""
        return len(self.line_checks) == len(self._written_lines) == len(self.lines)

    def emit(self, template: str, *values: int) -> Sequence[int]:
        """Compare the next written line with the expected one and return its values, or the expected ones if unparsable."""
        super().emit(template, *values)
        line_number = len(self.line_checks)
        # The run needs more lines than were written; it continues on its own so that an answer can be computed.
        if line_number >= len(self._written_lines):
            return values
        expected, written = self.lines[-1], self._written_lines[line_number]
        # Most lines are correct; a comparison of the texts is cheaper than parsing both.
        if written == expected:
            self.line_checks.append(True)
            return values
        written_values = parse_matching_integers(expected, written)
        self.line_checks.append(written_values is not None and written_values == parse_integers(expected))
        return values if written_values is None else written_values


def parse_integers(text: str) -> list[int]:
    """Return all unsigned integers of a text.

    Example:
        >>> parse_integers("7+05=12")
        [7, 5, 12]
    """
    return [int(digits) for digits in DIGITS.findall(text)]


def parse_matching_integers(expected: str, written: str) -> list[int] | None:
    """Return the integers of a written text, or None if the texts differ outside their digits.

    Example:
        >>> parse_matching_integers("2+3=5", "2+3=06")
        [2, 3, 6]
        >>> parse_matching_integers("2+3=5", "2-3=6") is None
        True
    """
    return parse_integers(written) if DIGITS.split(expected) == DIGITS.split(written) else None
