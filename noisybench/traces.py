"""Programs on integers, their execution traces as text, and what goes wrong while they run.

A trace is the chain of thought of a program: a line for each shown step, then the answer. Every integer is made by a
`Machine`, which may change its digits, so that whatever is computed from it is computed from the wrong number.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisybench.dataset import IGNORED
from noisybench.errors import UserError, nearest

VOCABULARY = (*"0123456789+*=%,:;#$", "max", "sum", "sort", "mod")
"""Tokens; `:` ends the prompt, `;` a line, `#` comes before the answer, `$` ends the trace."""

NUMBER = {token: number for number, token in enumerate(VOCABULARY)}
END, ANSWER, LINE, COLON = (NUMBER[each] for each in "$#;:")


class Machine:
    """Makes integers, with wrong digits where it is told to.

    Args:
        wrong: whether each next digit is wrong; None makes none wrong.
        digits: what it is instead.
    """

    def __init__(self, wrong: Sequence[bool] | None = None, digits: Sequence[int] = ()) -> None:
        self._wrong, self._digits, self._place = wrong, digits, 0
        self.changed = 0
        self.lines: list[str] = []

    def new(self, value: int) -> int:
        """The integer as it is stored: each digit from the first one that is not zero may be another one."""
        if self._wrong is None or not value:
            return value
        text, place = str(value), self._place
        self._place = place + len(text)
        if self._place > len(self._wrong):
            raise UserError(f"traces: a program makes more than {len(self._wrong)} digits; it may not end")
        if not any(self._wrong[place : self._place]):
            return value
        found = "".join(
            str(self._digits[place + each]) if self._wrong[place + each] else digit for each, digit in enumerate(text)
        )
        self.changed += 1
        return int(found)

    def line(self, text: str) -> None:
        """Show a step."""
        self.lines.append(text)


class Program(abc.ABC):
    """A program: how its prompts are written and read, and how it runs.

    Attributes:
        name: by which it is chosen.
        width: digits of each operand.
        count: number of operands.
    """

    name: str

    def __init__(self, width: int, count: int) -> None:
        self.width, self.count = width, count

    @abc.abstractmethod
    def prompt(self, operands: Sequence[int]) -> list[str]:
        """Tokens of the prompt, with the colon at its end."""

    @abc.abstractmethod
    def run(self, machine: Machine, operands: Sequence[int]) -> str:
        """Run on a machine, showing lines, and give the answer's text."""

    @abc.abstractmethod
    def steps_right(self, operands: Sequence[int], lines: Sequence[str], answer: str) -> list[bool]:
        """For each line and the answer, whether it follows from the prompt and the lines before it."""

    def trace(self, operands: Sequence[int], machine: Machine | None = None) -> str:
        """The response: lines, answer, and the end."""
        machine = machine or Machine()
        answer = self.run(machine, operands)
        return f"{';'.join(machine.lines)}#{answer}$"

    def replay(self, operands: Sequence[int], response: str) -> list[bool]:
        """Which steps of a response are right; a response that cannot be read has one wrong step."""
        body, mark, answer = response.removesuffix("$").partition("#")
        if not mark or not response.endswith("$"):
            return [False]
        return self.steps_right(operands, body.split(";") if body else [], answer)


def numbers_of(text: str, separators: str) -> list[int] | None:
    """Integers between separators; None where there is something else."""
    for each in separators:
        text = text.replace(each, " ")
    parts = text.split(" ")
    return [int(each) for each in parts] if all(each.isdigit() for each in parts) else None


class Add(Program):
    """Column addition of two numbers, the last digits first: ``7+5+0=12;4+0+1=05#052$``."""

    name = "add"

    def prompt(self, operands: Sequence[int]) -> list[str]:
        """``47+05:``."""
        return list(f"{operands[0]:0{self.width}d}+{operands[1]:0{self.width}d}:")

    def run(self, machine: Machine, operands: Sequence[int]) -> str:
        """Column by column; the first sum, the extended result and its length are not shown."""
        new, carry, result = machine.new, 0, 0
        first, second = (f"{each:0{self.width}d}" for each in operands)
        for column in range(self.width):
            place = self.width - 1 - column
            one, other = new(int(first[place])), new(int(second[place]))
            total = new(new(one + other) + carry)
            machine.line(f"{one}+{other}+{carry}={total:02d}")
            extended = new(total)
            result += extended % 10 * 10**column
            carry = int(new(len(str(extended))) > 1)
        answer = new(result + carry * 10**self.width)
        return f"{answer:0{self.width + 1}d}"

    def steps_right(self, operands: Sequence[int], lines: Sequence[str], answer: str) -> list[bool]:
        """Digits from the prompt, carry from the line before, sum of the three, answer from the lines."""
        first, second = (f"{each:0{self.width}d}" for each in operands)
        found, carry, result = [], 0, 0
        for column, line in enumerate(lines):
            numbers = numbers_of(line, "+=")
            place = self.width - 1 - column
            if numbers is None or len(numbers) != 4 or place < 0:
                found.append(False)
                continue
            one, other, carried, total = numbers
            found.append(
                (one, other, carried) == (int(first[place]), int(second[place]), carry)
                and one + other + carried == total
            )
            result += total % 10 * 10**column
            carry = int(total > 9)
        complete = len(lines) == self.width and answer.isdigit() and int(answer) == result + carry * 10**self.width
        return [*found, complete]


class _Running(Program):
    """A list worked through from left to right, with the result so far in each line."""

    def prompt(self, operands: Sequence[int]) -> list[str]:
        """The name, then the operands with commas."""
        return [self.name, *",".join(f"{each:0{self.width}d}" for each in operands), ":"]

    @abc.abstractmethod
    def combined(self, result: int, operand: int) -> int:
        """The result with one more operand."""

    def run(self, machine: Machine, operands: Sequence[int]) -> str:
        """Every operand is read, and the result made anew."""
        result = machine.new(operands[0])
        machine.line(str(result))
        for each in operands[1:]:
            result = machine.new(self.combined(result, machine.new(each)))
            machine.line(str(result))
        return str(machine.new(result))

    def steps_right(self, operands: Sequence[int], lines: Sequence[str], answer: str) -> list[bool]:
        """Each line follows from the one before and the next operand."""
        found, before = [], None
        for place, line in enumerate(lines):
            if not line.isdigit() or place >= len(operands):
                found.append(False)
                continue
            wanted = operands[place] if before is None else self.combined(before, operands[place])
            found.append(int(line) == wanted)
            before = int(line)
        return [*found, len(lines) == len(operands) and answer.isdigit() and int(answer) == before]


class Max(_Running):
    """The greatest of a list: ``4;4;7#7$``."""

    name = "max"

    def combined(self, result: int, operand: int) -> int:
        """The greater."""
        return max(result, operand)


class Sum(_Running):
    """The sum of a list, with every partial sum."""

    name = "sum"

    def combined(self, result: int, operand: int) -> int:
        """The sum."""
        return result + operand


class Mod(_Running):
    """The sum of a list modulo ten, with every partial result."""

    name = "mod"

    def combined(self, result: int, operand: int) -> int:
        """The sum's last digit."""
        return (result + operand) % 10


PROGRAMS: dict[str, type[Program]] = {each.name: each for each in (Add, Max, Sum, Mod)}


def program_of(name: str, width: int, count: int) -> Program:
    """A program by its name.

    Raises:
        UserError: there is none of that name.
    """
    if name not in PROGRAMS:
        raise UserError(f"dataset.program: there is no program `{name}`; {nearest(name, PROGRAMS)}")
    return PROGRAMS[name](width, 2 if name == "add" else count)


def read_prompt(tokens: Sequence[int]) -> tuple[Program, list[int]]:
    """The program and operands of a prompt's tokens."""
    parts = [VOCABULARY[each] for each in tokens if each != IGNORED]
    name = parts[0] if parts[0] in PROGRAMS else "add"
    text = "".join(each for each in parts[:-1] if each not in PROGRAMS)
    operands = text.split("+" if name == "add" else ",")
    return program_of(name, len(operands[0]), len(operands)), [int(each) for each in operands]


def encode(texts: Sequence[str], length: int) -> NDArray[np.uint8]:
    """(N, length) tokens of responses, `IGNORED` after their end.

    Raises:
        UserError: one is longer.
    """
    longest = max((len(each) for each in texts), default=0)
    if longest > length:
        raise UserError(f"traces: one has {longest} tokens, but {length} fit")
    found = np.full((len(texts), length), IGNORED, dtype=np.uint8)
    for row, text in enumerate(texts):
        found[row, : len(text)] = [NUMBER[each] for each in text]
    return found


def decode(tokens: Sequence[int] | NDArray[np.uint8]) -> str:
    """The text of tokens up to the end, or as far as there are some."""
    found = []
    for each in tokens:
        if each == IGNORED:
            break
        found.append(VOCABULARY[int(each)])
        if each == END:
            break
    return "".join(found)


@dataclass(frozen=True)
class Score:
    """What one response is worth.

    Attributes:
        right: whether its answer is that of the program.
        readable: whether it has an answer that is a number.
        steps: how many it shows, the answer included.
        right_steps: how many of them follow from the prompt and the steps before.
    """

    right: bool
    readable: bool
    steps: int
    right_steps: int


def score(prompt: Sequence[int], response: str) -> Score:
    """Score a response against a rerun of its prompt's program; leading zeros and blanks do not matter."""
    program, operands = read_prompt(prompt)
    wanted = program.trace(operands).partition("#")[2].removesuffix("$")
    answer = response.partition("#")[2].removesuffix("$").replace(" ", "")
    steps = program.replay(operands, response)
    readable = answer.isdigit()
    return Score(readable and int(answer) == int(wanted), readable, len(steps), sum(steps))
