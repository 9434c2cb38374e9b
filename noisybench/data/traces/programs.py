"""Programs on lists of integers. One's own is a class with a `run`."""

from __future__ import annotations

import abc
import contextlib
import importlib.util
import math
import operator
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

from noisybench.data.traces.machine import Machine, Unending
from noisybench.errors import UserError, nearest

INSTRUCTIONS = 200_000
"""Lines of Python that a program of the user's may execute in one run."""


class Program(abc.ABC):
    """A program: how it runs, and how its prompts are written.

    Every integer that may go wrong is made by ``machine.new``, every step shown by ``machine.line``, and the program goes on
    with the integers that these give back. So a run can be noised, and a written run be followed.

    Attributes:
        name: with which prompts begin, unless `sign` joins the operands.
        sign: between the operands.
        count_fixed: number of operands, where it is not free.
    """

    name: ClassVar[str] = ""
    sign: ClassVar[str] = ","
    count_fixed: ClassVar[int | None] = None
    stream_name: ClassVar[str]
    """Name of a built-in program in random streams. Never change it: it decides every drawn number."""
    own: ClassVar[bool] = True
    """Whether it is the user's: it may then do anything, and is watched."""

    def __init__(self, width: int, count: int) -> None:
        self.width, self.count = width, self.count_fixed or count

    @abc.abstractmethod
    def run(self, machine: Machine, operands: Sequence[int]) -> str:
        """Run on a machine, showing lines, and give the answer's text."""

    def arranged(self, operands: Sequence[int]) -> list[int]:
        """Drawn operands as they are put into a prompt."""
        return list(operands)

    def prompt(self, operands: Sequence[int]) -> str:
        """The prompt, with a colon at its end."""
        return f"{self.name}{self.sign.join(f'{each:0{self.width}d}' for each in operands)}:"

    def read(self, prompt: str) -> tuple[Program, list[int]]:
        """This program for a prompt's width and number of operands, and these."""
        operands = re.findall(r"\d+", prompt)
        size = len(operands[0]), len(operands)
        program = self if size == (self.width, self.count) else type(self)(*size)
        return program, [int(each) for each in operands]

    def trace(self, operands: Sequence[int], machine: Machine) -> tuple[list[str], str]:
        """Lines and answer of a run on a machine.

        Raises:
            Unending: it does not seem to end.
            UserError: a program of the user's raises.
        """
        if not self.own:
            answer = self.run(machine, operands)
            return machine.lines, answer
        try:
            with _watched():
                answer = self.run(machine, operands)
        except Unending:
            raise
        except Exception as error:
            raise UserError(
                f"dataset.program: {type(self).__name__} raises {type(error).__name__} ({error}) for the operands "
                f"{list(operands)}; "
                "it must run for whatever it is given, also for wrong digits"
            ) from None
        if not isinstance(answer, str):
            raise UserError(
                f"dataset.program: {type(self).__name__}.run must return the answer's text, but gave {answer!r}"
            )
        return machine.lines, answer


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """Stop what executes too many lines."""
    count, before = 0, sys.gettrace()

    def watch(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        nonlocal count
        count += 1
        if count > INSTRUCTIONS:
            raise Unending
        return watch

    sys.settrace(watch)
    try:
        yield
    finally:
        sys.settrace(before)


class _BuiltIn(Program):
    own = False


class Add(_BuiltIn):
    """Column addition of two numbers, the last digits first: ``7+5+0=12;4+0+1=05#052``."""

    stream_name = "add"
    sign, count_fixed = "+", 2

    def run(self, machine: Machine, operands: Sequence[int]) -> str:
        """Column by column; the first sum, the extended result and its length are not shown."""
        new, carry, result = machine.new, 0, 0
        first, second = (f"{each:0{self.width}d}" for each in operands)
        for column in range(self.width):
            place = self.width - 1 - column
            one, other = new(int(first[place])), new(int(second[place]))
            total = new(new(one + other) + carry)
            _, _, _, total = machine.line("{}+{}+{}={:02d}", one, other, carry, total)
            extended = new(total)
            result += extended % 10 * 10**column
            carry = int(new(len(str(extended))) > 1)
        answer = new(result + carry * 10**self.width)
        return f"{answer:0{self.width + 1}d}"


class Sub(_BuiltIn):
    """Column subtraction, the greater number first, with borrowing: ``7-9-0=8,1;4-0-1=3,0#38``."""

    stream_name = "sub"
    sign, count_fixed = "-", 2

    def arranged(self, operands: Sequence[int]) -> list[int]:
        """The greater first."""
        return sorted(operands, reverse=True)

    def run(self, machine: Machine, operands: Sequence[int]) -> str:
        """Column by column; a line has digits, borrow, digit of the result and the next borrow."""
        new, borrow, result = machine.new, 0, 0
        first, second = (f"{each:0{self.width}d}" for each in operands)
        for column in range(self.width):
            place = self.width - 1 - column
            one, other = new(int(first[place])), new(int(second[place]))
            left = new(one - other) - borrow
            _, _, _, digit, borrow = machine.line(
                "{}-{}-{}={},{}", one, other, borrow, new(left % 10), int(new(int(left < 0)) > 0)
            )
            result += digit % 10 * 10**column
        return f"{new(result):0{self.width}d}"


class Mul(_BuiltIn):
    """Long multiplication: a line for each digit of the second number, its product, and the sum so far: ``5*47=235,235``."""

    stream_name = "mul"
    sign, count_fixed = "*", 2

    def run(self, machine: Machine, operands: Sequence[int]) -> str:
        """Digit by digit, the last first."""
        new, total = machine.new, 0
        first, digits = operands[0], f"{operands[1]:0{self.width}d}"
        for column, each in enumerate(reversed(digits)):
            digit, read = new(int(each)), new(first)
            product = new(digit * read)
            _, _, _, total = machine.line("{}*{}={},{}", digit, read, product, new(total + product * 10**column))
        return str(new(total))


class GCD(_BuiltIn):
    """Euclid's algorithm: ``47%5=2;5%2=1;2%1=0#1``."""

    stream_name = "gcd"
    name, count_fixed = "gcd", 2

    def run(self, machine: Machine, operands: Sequence[int]) -> str:
        """Until nothing is left over."""
        first, second = (machine.new(each) for each in operands)
        while second:
            first, second, rest = machine.line("{}%{}={}", first, second, machine.new(first % second))
            first, second = second, rest
        return str(machine.new(first))


class _Running(_BuiltIn):
    """A list worked through from left to right, with the result so far in each line."""

    @abc.abstractmethod
    def combined(self, result: int, operand: int, place: int) -> int:
        """The result with one more operand."""

    def run(self, machine: Machine, operands: Sequence[int]) -> str:
        """Every operand is read, and the result made anew."""
        (result,) = machine.line("{}", machine.new(operands[0]))
        for place, each in enumerate(operands[1:]):
            (result,) = machine.line("{}", machine.new(self.combined(result, machine.new(each), place)))
        return str(machine.new(result))


class Max(_Running):
    """The greatest of a list: ``4;4;7#7``."""

    stream_name = "max"
    name = "max"

    def combined(self, result: int, operand: int, place: int) -> int:
        """The greater."""
        return max(result, operand)


class Sum(_Running):
    """The sum of a list, with every partial sum."""

    stream_name = "sum"
    name = "sum"

    def combined(self, result: int, operand: int, place: int) -> int:
        """The sum."""
        return result + operand


class Product(_Running):
    """The product of a list, with every partial product."""

    stream_name = "product"
    name = "prod"

    def combined(self, result: int, operand: int, place: int) -> int:
        """The product."""
        return result * operand


class Mod(_Running):
    """The sum of a list modulo ten, with every partial result."""

    stream_name = "mod"
    name = "mod"

    def combined(self, result: int, operand: int, place: int) -> int:
        """The sum's last digit."""
        return (result + operand) % 10


class Composed(_Running):
    """Add, multiply and distance by turns, one function of the other, modulo the width: ``47+05*12-07`` from the left."""

    stream_name = "composed"
    sign = "?"

    def prompt(self, operands: Sequence[int]) -> str:
        """Operands with the functions between them."""
        texts = [f"{each:0{self.width}d}" for each in operands]
        return texts[0] + "".join("+*-"[place % 3] + each for place, each in enumerate(texts[1:])) + ":"

    def combined(self, result: int, operand: int, place: int) -> int:
        """The next function's value."""
        function: Callable[[int, int], int] = (operator.add, operator.mul, operator.sub)[place % 3]
        return abs(function(result, operand)) % int(10**self.width)


class Sort(_BuiltIn):
    """Selection sort; a line for each number that is found the least of those left: ``3;5;9#3,5,9``."""

    stream_name = "sort"
    name = "sort"

    def run(self, machine: Machine, operands: Sequence[int]) -> str:
        """Numbers are read once, and compared as they were read."""
        return ",".join(str(machine.new(each)) for each in selected(machine, operands))


class Median(_BuiltIn):
    """The middle of a sorted list, or the mean of the two in the middle, rounded down: ``3;5;9#5``."""

    stream_name = "median"
    name = "median"

    def run(self, machine: Machine, operands: Sequence[int]) -> str:
        """Sorts, then looks at the middle."""
        found, half = selected(machine, operands), len(operands) // 2
        middle = found[half] if len(found) % 2 else machine.new(found[half - 1] + found[half]) // 2
        return str(machine.new(middle))


def selected(machine: Machine, operands: Sequence[int]) -> list[int]:
    """A list by selection sort, as it was shown."""
    left, found = [machine.new(each) for each in operands], list[int]()
    while left:
        least = left.pop(left.index(min(left)))
        found += machine.line("{}", machine.new(least))
    return found


PROGRAMS: dict[str, type[Program]] = {
    "add": Add, "sub": Sub, "mul": Mul, "gcd": GCD, "max": Max, "sum": Sum, "product": Product, "mod": Mod,
    "composed": Composed, "sort": Sort, "median": Median,
}  # fmt: skip


def program_class(name: str) -> type[Program]:
    """A program by its name, or one's own by ``file.py:Class``.

    Raises:
        UserError: there is none of that name, or the file has no such class.
    """
    path, _, attribute = name.rpartition(":")
    if path.endswith(".py"):
        return _own(Path(path).expanduser(), attribute)
    if name not in PROGRAMS:
        raise UserError(
            f"dataset.program: there is no program `{name}`; {nearest(name, PROGRAMS)}, or give one of your own as file.py:Class"
        )
    return PROGRAMS[name]


def _own(path: Path, attribute: str) -> type[Program]:
    if not path.is_file():
        raise UserError(f"dataset.program: {path}: there is no such file")
    specification = importlib.util.spec_from_file_location(f"noisybench_program_{path.stem}", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"dataset.program: {path} cannot be imported ({type(error).__name__}: {error})") from None
    found = getattr(module, attribute, None)
    if not (isinstance(found, type) and issubclass(found, Program)):
        raise UserError(
            f"dataset.program: {path} has no class `{attribute}` that is a noisybench.data.traces.programs.Program"
        )
    return found


def different_problems(program: Program) -> int:
    """How many different problems there are."""
    whole = int(10 ** (program.width * program.count))
    least_first = math.isqrt(whole)
    return (whole + least_first) // 2 if isinstance(program, Sub) else whole
