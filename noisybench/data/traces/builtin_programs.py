"""Built-in programs on lists of integers (after Havrilla and Iyer 2024)."""

from __future__ import annotations

import abc
import math
import operator
from collections.abc import Callable, Sequence
from pathlib import Path

from noisybench.data.traces.programs import Program, load_custom_program
from noisybench.data.traces.recorder import TraceRecorder
from noisybench.errors import UserError, nearest
from noisybench.utils.places import expand_user


class _BuiltInProgram(Program):
    is_custom = False


# The order of the calls of `integer` decides which digits noise replaces: changing it changes the data.


class Add(_BuiltInProgram):
    """Column addition of two numbers, from the last digit to the first: ``7+5+0=12;4+0+1=05#052``."""

    stream_name = "add"
    separator, num_operands = "+", 2

    def run(self, recorder: TraceRecorder, operands: Sequence[int]) -> str:
        """Emit a line per column; the first sum, the extended result and its length are computed but not shown."""
        integer, carry, result = recorder.integer, 0, 0
        first, second = (f"{operand:0{self.width}d}" for operand in operands)
        for column in range(self.width):
            position = self.width - 1 - column
            first_digit, second_digit = integer(int(first[position])), integer(int(second[position]))
            total = integer(integer(first_digit + second_digit) + carry)
            _, _, _, total = recorder.emit("{}+{}+{}={:02d}", first_digit, second_digit, carry, total)
            extended = integer(total)
            result += extended % 10 * 10**column
            carry = int(integer(len(str(extended))) > 1)
        answer = integer(result + carry * 10**self.width)
        return f"{answer:0{self.width + 1}d}"


class Sub(_BuiltInProgram):
    """Column subtraction with borrowing, the greater number first: ``7-9-0=8,1;4-0-1=3,0#38``."""

    stream_name = "sub"
    separator, num_operands = "-", 2

    def arrange(self, operands: Sequence[int]) -> list[int]:
        """Return the greater operand first."""
        return sorted(operands, reverse=True)

    def num_unique_problems(self) -> int:
        """Return the number of unordered pairs, since the greater number always comes first."""
        num_pairs = super().num_unique_problems()
        # Of k**2 ordered pairs, the k with equal operands have no mirror image. The integer root stays exact for large
        # k.
        return (num_pairs + math.isqrt(num_pairs)) // 2

    def run(self, recorder: TraceRecorder, operands: Sequence[int]) -> str:
        """Emit a line per column with both digits, the borrow, the digit of the result and the next borrow."""
        integer, borrow, result = recorder.integer, 0, 0
        first, second = (f"{operand:0{self.width}d}" for operand in operands)
        for column in range(self.width):
            position = self.width - 1 - column
            first_digit, second_digit = integer(int(first[position])), integer(int(second[position]))
            difference = integer(first_digit - second_digit) - borrow
            _, _, _, digit, borrow = recorder.emit(
                "{}-{}-{}={},{}",
                first_digit,
                second_digit,
                borrow,
                integer(difference % 10),
                int(integer(int(difference < 0)) > 0),
            )
            # A replayed line may hold a number with several digits here.
            result += digit % 10 * 10**column
        return f"{integer(result):0{self.width}d}"


class Mul(_BuiltInProgram):
    """Long multiplication; a line per digit of the second number has its product and the sum so far: ``5*47=235,235``."""

    stream_name = "mul"
    separator, num_operands = "*", 2

    def run(self, recorder: TraceRecorder, operands: Sequence[int]) -> str:
        """Multiply digit by digit, from the last to the first."""
        integer, total = recorder.integer, 0
        first, digits = operands[0], f"{operands[1]:0{self.width}d}"
        for column, character in enumerate(reversed(digits)):
            digit, factor = integer(int(character)), integer(first)
            product = integer(digit * factor)
            _, _, _, total = recorder.emit("{}*{}={},{}", digit, factor, product, integer(total + product * 10**column))
        return str(integer(total))


class GCD(_BuiltInProgram):
    """Greatest common divisor by Euclid's algorithm: ``47%5=2;5%2=1;2%1=0#1``."""

    stream_name = "gcd"
    name, num_operands = "gcd", 2

    def run(self, recorder: TraceRecorder, operands: Sequence[int]) -> str:
        """Divide until the remainder is zero."""
        first, second = (recorder.integer(operand) for operand in operands)
        # Corrupted remainders may keep away from zero; the limits of the recorder end such a run.
        while second:
            first, second, remainder = recorder.emit("{}%{}={}", first, second, recorder.integer(first % second))
            first, second = second, remainder
        return str(recorder.integer(first))


class _Fold(_BuiltInProgram):
    """Fold of a list from left to right; each line is the result so far."""

    @abc.abstractmethod
    def combine(self, result: int, operand: int, step: int) -> int:
        """Return the result with one more operand; `step` counts from 0."""

    def run(self, recorder: TraceRecorder, operands: Sequence[int]) -> str:
        """Read every operand once, and compute the result anew in each step."""
        (result,) = recorder.emit("{}", recorder.integer(operands[0]))
        for step, operand in enumerate(operands[1:]):
            combined = self.combine(result, recorder.integer(operand), step)
            (result,) = recorder.emit("{}", recorder.integer(combined))
        return str(recorder.integer(result))


class Max(_Fold):
    """Maximum of a list: ``4;4;7#7``."""

    stream_name = "max"
    name = "max"

    def combine(self, result: int, operand: int, step: int) -> int:
        """Return the greater number."""
        return max(result, operand)


class Sum(_Fold):
    """Sum of a list with all partial sums: ``4;6;13#13``."""

    stream_name = "sum"
    name = "sum"

    def combine(self, result: int, operand: int, step: int) -> int:
        """Return the sum."""
        return result + operand


class Product(_Fold):
    """Product of a list with all partial products: ``4;8;56#56``."""

    stream_name = "product"
    name = "prod"

    def combine(self, result: int, operand: int, step: int) -> int:
        """Return the product."""
        return result * operand


class Mod(_Fold):
    """Sum of a list modulo ten with all partial results: ``4;6;3#3``."""

    stream_name = "mod"
    name = "mod"

    def combine(self, result: int, operand: int, step: int) -> int:
        """Return the last digit of the sum."""
        return (result + operand) % 10


class Composed(_Fold):
    """Addition, multiplication and distance in turn, from left to right, modulo 10 to the width: ``47+05*12-07``."""

    stream_name = "composed"
    separator = "?"

    def prompt(self, operands: Sequence[int]) -> str:
        """Return the prompt with the function of each step between the operands."""
        texts = [f"{operand:0{self.width}d}" for operand in operands]
        return texts[0] + "".join("+*-"[step % 3] + text for step, text in enumerate(texts[1:])) + ":"

    def combine(self, result: int, operand: int, step: int) -> int:
        """Return the value of the function of this step."""
        function: Callable[[int, int], int] = (operator.add, operator.mul, operator.sub)[step % 3]
        # Replaying a written trace reads unsigned integers, so every result must be nonnegative and of bounded length.
        return abs(function(result, operand)) % int(10**self.width)


class Sort(_BuiltInProgram):
    """Selection sort; each line is the minimum of the remaining numbers: ``3;5;9#3,5,9``."""

    stream_name = "sort"
    name = "sort"

    def run(self, recorder: TraceRecorder, operands: Sequence[int]) -> str:
        """Sort the numbers as they were read once, and list them again in the answer."""
        return ",".join(str(recorder.integer(number)) for number in _selection_sort(recorder, operands))


class Median(_BuiltInProgram):
    """Middle of the sorted list, or the mean of the two middle numbers, rounded down: ``3;5;9#5``."""

    stream_name = "median"
    name = "median"

    def run(self, recorder: TraceRecorder, operands: Sequence[int]) -> str:
        """Sort the list, then read its middle."""
        ordered, half = _selection_sort(recorder, operands), len(operands) // 2
        middle = ordered[half] if len(ordered) % 2 else recorder.integer(ordered[half - 1] + ordered[half]) // 2
        return str(recorder.integer(middle))


def _selection_sort(recorder: TraceRecorder, operands: Sequence[int]) -> list[int]:
    remaining, ordered = [recorder.integer(operand) for operand in operands], list[int]()
    while remaining:
        minimum = remaining.pop(remaining.index(min(remaining)))
        ordered += recorder.emit("{}", recorder.integer(minimum))
    return ordered


PROGRAMS: dict[str, type[Program]] = {
    "add": Add, "sub": Sub, "mul": Mul, "gcd": GCD, "max": Max, "sum": Sum, "product": Product, "mod": Mod,
    "composed": Composed, "sort": Sort, "median": Median,
}  # fmt: skip


def get_program_class(name: str) -> type[Program]:
    """Return a built-in program class by its name, or a custom one by ``file.py:Class``.

    Raises:
        UserError: no built-in program has this name, or the file has no such class.

    Example:
        >>> get_program_class("gcd")(width=2, count=2).prompt([47, 5])
        'gcd47,05:'
    """
    path, _, class_name = name.rpartition(":")
    if path.endswith(".py"):
        return load_custom_program(expand_user(Path(path)), class_name)
    if name not in PROGRAMS:
        raise UserError(
            f"dataset.program: unknown program `{name}`; {nearest(name, PROGRAMS)}, or name your own class as file.py:Class"
        )
    return PROGRAMS[name]


def program_files(name: str) -> dict[str, Path]:
    """Return the file of a custom program by the name `program`; nothing for a built-in one.

    Example:
        >>> program_files("gcd"), program_files("mine/reverse.py:Reverse")
        ({}, {'program': PosixPath('mine/reverse.py')})
    """
    path = name.rpartition(":")[0]
    return {"program": Path(path)} if path.endswith(".py") else {}
