"""Word problems whose solutions have annotated calculations, as GSM8K has them: ``48/2 = <<48/2=24>>24 clips``."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from fractions import Fraction

from noisybench.data.traces.formats import TraceFormat
from noisybench.data.traces.machine import Machine

ANNOTATED = re.compile(r"<<([^<>=]*)=([^<>]*)>>(\s*-?[\d,]*\.?\d+)?")
NUMBER = re.compile(r"(?<![\d.])\d[\d,]*(?:\.\d+)?|(?<![\d.])\.\d+")
OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip
LONGEST = 200
"""Characters of an expression that is still calculated."""


def value_of(text: str) -> Fraction | None:
    """A written number, with thousands' commas, a dollar or percent sign; None where it is none."""
    cleaned = text.strip().replace(",", "").replace("$", "")
    share = cleaned.endswith("%")
    try:
        found = Fraction(cleaned.removesuffix("%"))
    except (ValueError, ZeroDivisionError):
        return None
    return found / 100 if share else found


def calculated(expression: str) -> Fraction | None:
    """Value of an expression of numbers, + - * / and parentheses, exactly; None where it is no such expression."""
    text = re.sub(r"(\d|\.)%", r"\1/100", expression.replace(",", "").replace("$", "").replace("x", "*"))
    text = re.sub(r"(?<![\d.])0+(?=\d)", "", text).strip()
    if len(text) > LONGEST:
        return None
    try:
        return _value(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError):
        return None


def _value(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return Fraction(str(node.value))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        found = _value(node.operand)
        return -found if isinstance(node.op, ast.USub) else found
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        return OPERATIONS[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError


def agree(exact: Fraction, written: str) -> bool:
    """Whether a written number is the exact one, rounded to the places that it has, if it has some."""
    found = value_of(written)
    if found is None:
        return False
    places = len(written.strip().rstrip("%").partition(".")[2])
    return abs(exact - found) <= (Fraction(1, 2 * 10**places) if places else 0)


class Calculations(TraceFormat):
    """Solutions line by line, with annotated calculations; the answer comes after ``####`` or ``A:``.

    A step is a calculation: right if its expression has the written value, and this is repeated after it. The last
    step is the answer, right if it is a number of the lines. That the right numbers are calculated with nobody can see
    by executing; the answer of a problem is known to those alone who have solved it.
    """

    end = "\x03"
    separator = "\n"
    answer_marks = ("\n#### ", "\nA: ")

    def answer(self, response: str) -> str | None:
        """The answer as a number without commas and signs of currency."""
        tail = self.parts(response)[1].removesuffix(self.end)
        for mark in self.answer_marks:
            tail = tail.removeprefix(mark)
        found = value_of(tail)
        return None if found is None else str(found)

    def same_answer(self, written: str | None, wanted: str) -> bool:
        """Whether two answers are the same number."""
        return written is not None and value_of(written) == value_of(wanted)

    def follows(self, prompt: str, response: str) -> list[bool]:
        """Every annotated calculation, and whether the answer is among the numbers."""
        steps = []
        for found in ANNOTATED.finditer(response):
            expression, value, repeated = found.groups()
            exact = calculated(expression)
            right = exact is not None and agree(exact, value)
            if right and repeated is not None:
                right = agree(value_of(value) or Fraction(0), repeated)
            steps.append(right)
        lines, tail = self.parts(response)
        answer, start = self.answer(response), self.spans(lines, tail)[-1][0]
        return [*steps, answer is not None and tail.endswith(self.end) and self._told(answer, response[:start])]

    def right(self, prompt: str, answer: str | None) -> None:
        """Nobody can tell."""

    def _told(self, answer: str, body: str) -> bool:
        """Whether a number is anywhere among the lines; where these have none, nothing speaks against it."""
        found = [value_of(each) for each in NUMBER.findall(body)]
        return not found or value_of(answer) in found

    def step_spans(self, response: str) -> list[tuple[int, int]]:
        """Annotated calculations, and the answer."""
        found = [(each.start(), each.end()) for each in ANNOTATED.finditer(response)]
        return [*found, self.spans(*self.parts(response))[-1]]

    def recomputed(self, prompt: str, response: str) -> str:
        """With the last calculation's result as the answer, where that can be read."""
        found = [each.group(2) for each in ANNOTATED.finditer(response)]
        start = self.step_spans(response)[-1][0]
        mark = next((each for each in self.answer_marks if response.startswith(each, start)), None)
        if not found or mark is None or value_of(found[-1]) is None:
            return response
        return f"{response[:start]}{mark}{found[-1].strip()}{self.end}"

    def rerun(self, prompt: str, response: str, machine: Machine) -> str:
        """The solution with each result made by the machine, and every later mention of it with what was made."""
        made: dict[Fraction, str] = {}
        parts, place = [], 0
        for found in ANNOTATED.finditer(response):
            expression, value, repeated = found.groups()
            parts.append(_renamed(response[place : found.start()], made))
            given = _renamed(expression, made)
            exact = None if given == expression else calculated(given)
            stored = _stored(value if exact is None else _written(exact), machine)
            original = value_of(value)
            if original is not None:
                made.pop(original, None)
                if stored != value:
                    made[original] = stored
            blanks = "" if repeated is None else repeated[: len(repeated) - len(repeated.lstrip())]
            shown = repeated or "" if stored == value else "" if repeated is None else blanks + stored
            parts.append(f"<<{given}={stored}>>{shown}")
            place = found.end()
        return "".join([*parts, _renamed(response[place:], made)])


def _renamed(text: str, made: dict[Fraction, str]) -> str:
    """A text with what was made in the place of the results that there would have been."""
    if not made:
        return text

    def change(found: re.Match[str]) -> str:
        value = value_of(found.group())
        return made.get(value, found.group()) if value is not None else found.group()

    return NUMBER.sub(change, text)


def _written(exact: Fraction) -> str:
    """A number with at most two decimal places."""
    return str(exact.numerator) if exact.denominator == 1 else f"{float(exact):.2f}".rstrip("0").rstrip(".")


def _stored(text: str, machine: Machine) -> str:
    """A number as the machine makes it, digit by digit; the point stays where it is."""
    digits = re.sub(r"\D", "", text)
    if not digits or not int(digits):
        return text
    made = str(machine.new(int(digits))).zfill(len(digits))
    if made == digits:
        return text
    remaining = iter(made)
    return "".join(next(remaining) if each.isdigit() else each for each in text)
