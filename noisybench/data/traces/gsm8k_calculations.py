"""Text format of word problems with annotated calculations, as in GSM8K (Cobbe et al. 2021): ``48/2 = <<48/2=24>>24``."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from fractions import Fraction

from noisybench.data.traces.answers import AnswerFormat, parse_number
from noisybench.data.traces.formats import TraceFormat
from noisybench.data.traces.recorder import TraceRecorder

ANNOTATION = re.compile(r"<<([^<>=]*)=([^<>]*)>>(\s*-?[\d,]*\.?\d+)?")
"""An annotated calculation: its expression, its result, and the result repeated in the text."""
NUMBER = re.compile(r"(?<![\d.])\d[\d,]*(?:\.\d+)?|(?<![\d.])\.\d+")
OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    # The quotient of fractions rounded down is an integer of Python, whose own quotients would be floats.
    ast.FloorDiv: lambda dividend, divisor: Fraction(dividend // divisor),
}  # fmt: skip
DEFAULT_ANSWERS = AnswerFormat()
MAX_EXPRESSION_LENGTH = 200
"""Number of characters above which an expression is not evaluated."""


def evaluate_expression(expression: str) -> Fraction | None:
    """Return the exact value of an expression of numbers, ``+ - * / //`` and parentheses, or None for any other text.

    Example:
        >>> evaluate_expression("(48+2)/4"), evaluate_expression("50%*8"), evaluate_expression("2**9")
        (Fraction(25, 2), Fraction(4, 1), None)
    """
    text = re.sub(r"(\d|\.)%", r"\1/100", expression.replace(",", "").replace("$", "").replace("x", "*"))
    # Python refuses integer literals with leading zeros, which replaced digits can produce.
    text = re.sub(r"(?<![\d.])0+(?=\d)", "", text).strip()
    # Bounds the depth of the syntax tree and the size of the fractions; the text may come from a model.
    if len(text) > MAX_EXPRESSION_LENGTH:
        return None
    try:
        return _evaluate_node(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError):
        return None


def _evaluate_node(node: ast.expr) -> Fraction:
    """Return the value of a syntax tree; only the listed operations are evaluated, so that any text is safe."""
    # Exact types, because `True` is an instance of `int`. The shortest text of a float is its decimal value, while the
    # float itself is a binary fraction.
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return Fraction(str(node.value))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        operand = _evaluate_node(node.operand)
        return -operand if isinstance(node.op, ast.USub) else operand
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        return OPERATIONS[type(node.op)](_evaluate_node(node.left), _evaluate_node(node.right))
    raise ValueError


def equals_rounded(exact: Fraction, written: str) -> bool:
    """Return whether a written number is the exact value, rounded to its decimal places if it has some.

    Example:
        >>> equals_rounded(Fraction(2, 3), "0.67"), equals_rounded(Fraction(2, 3), "1")
        (True, False)
    """
    value = parse_number(written)
    if value is None:
        return False
    # Half a unit of the last written decimal place; a number without decimal places must be exact.
    num_decimals = len(written.strip().rstrip("%").partition(".")[2])
    return abs(exact - value) <= (Fraction(1, 2 * 10**num_decimals) if num_decimals else 0)


class CalculationTraceFormat(TraceFormat):
    r"""Solutions with annotated calculations in their lines, and an answer.

    A step is a calculation; it is correct if its expression has the written result and the text after it repeats this
    result. The last step is the answer; a number after ``####`` or ``A:`` is correct if it occurs in the lines, and any
    other answer if it can be read. Re-execution cannot detect a correct calculation with the wrong numbers, nor decide
    whether the answer of the problem is correct; for that, the data must have answers beside the responses.

    Args:
        vocabulary: all characters, including `end`.
        answers: place and kind of the answers in responses.
        gold_answers: correct answers by prompt, as `answers` normalizes them, if the data have them.

    Example:
        >>> solution = "He has 48/2 = <<48/2=24>>24 pens.\n#### 24\x03"
        >>> trace_format = CalculationTraceFormat("".join(sorted(set(solution))))
        >>> trace_format.check("", solution).is_valid, trace_format.extract_answer(solution)
        (True, '24')
        >>> trace_format.check("", solution.replace("=24>>", "=25>>")).first_error
        1
    """

    end = "\x03"
    separator = "\n"

    def __init__(
        self,
        vocabulary: str,
        answers: AnswerFormat = DEFAULT_ANSWERS,
        gold_answers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(vocabulary)
        self.answers, self.gold_answers = answers, gold_answers or {}

    def extract_answer(self, response: str) -> str | None:
        """Return the answer in the same form for equal answers, or None if it is missing or unreadable."""
        return self.answers.read(response.removesuffix(self.end))

    def answers_match(self, answer: str | None, expected: str) -> bool:
        """Return whether two answers are the same number, or the same text."""
        if answer is None or not self.answers.numeric:
            return answer is not None and answer == expected
        return parse_number(answer) == parse_number(expected)

    def split_response(self, response: str) -> tuple[list[str], str]:
        """Return the lines before the answer with its mark, and the rest."""
        located = self.answers.locate(response.removesuffix(self.end))
        start = len(response) if located is None else located.start
        body, tail = response[:start], response[start:]
        return body.split(self.separator) if body else [], tail

    def check_steps(self, prompt: str, response: str) -> list[bool]:
        """Evaluate every annotated calculation, and look the answer up among the numbers of the lines."""
        step_checks = []
        for annotation in ANNOTATION.finditer(response):
            expression, result, repeated = annotation.groups()
            exact = evaluate_expression(expression)
            is_correct = exact is not None and equals_rounded(exact, result)
            if is_correct and repeated is not None:
                is_correct = equals_rounded(parse_number(result) or Fraction(0), repeated)
            step_checks.append(is_correct)
        lines, tail = self.split_response(response)
        answer, answer_start = self.extract_answer(response), self.line_spans(lines, tail)[-1][0]
        # Only an answer that is written once more is one of the numbers of the lines.
        is_repeated = self.answers == DEFAULT_ANSWERS
        answer_follows = (
            answer is not None
            and tail.endswith(self.end)
            and (not is_repeated or self._occurs_in(answer, response[:answer_start]))
        )
        return [*step_checks, answer_follows]

    def check_answer(self, prompt: str, answer: str | None) -> bool | None:
        """Return whether the answer is that of the data; None if they have no answers, since execution cannot decide it."""
        if not self.gold_answers:
            return None
        gold = self.gold_answers.get(prompt)
        return gold is not None and self.answers_match(answer, gold)

    def reference_answer(self, prompt: str, response: str) -> str | None:
        """Return the answer of the data, or that of a clean response if they have none."""
        return self.gold_answers.get(prompt) if self.gold_answers else self.extract_answer(response)

    def _occurs_in(self, answer: str, body: str) -> bool:
        """Return whether the answer is one of the numbers of the lines; lines without numbers do not contradict it."""
        values = [parse_number(number) for number in NUMBER.findall(body)]
        # Compared as values, because the same number can be written with or without separators and zeros, and without sign,
        # which texts also write as a word or apart from the number.
        value = parse_number(answer)
        return not values or (value is not None and abs(value) in values)

    def step_spans(self, response: str) -> list[tuple[int, int]]:
        """Return the spans of the annotated calculations and of the answer."""
        spans = [annotation.span() for annotation in ANNOTATION.finditer(response)]
        return [*spans, self.line_spans(*self.split_response(response))[-1]]

    def recompute_answer(self, prompt: str, response: str) -> str:
        """Return the response with the result of the last calculation as its answer, if that is a number."""
        results = [annotation.group(2) for annotation in ANNOTATION.finditer(response)]
        text = response.removesuffix(self.end)
        located = self.answers.locate(text)
        if not results or located is None or not self.answers.numeric or parse_number(results[-1]) is None:
            return response
        return f"{text[: located.content]}{results[-1].strip()}{text[located.stop :]}{self.end}"

    def rerun(self, prompt: str, response: str, recorder: TraceRecorder) -> str:
        """Return the solution with the recorder's result of each calculation, and later mentions changed accordingly."""
        changed: dict[Fraction, str] = {}
        pieces, position = [], 0
        for annotation in ANNOTATION.finditer(response):
            expression, result, repeated = annotation.groups()
            pieces.append(_replace_numbers(response[position : annotation.start()], changed))
            new_expression = _replace_numbers(expression, changed)
            # An unchanged expression keeps its written result, which may be rounded or incorrect itself.
            exact = None if new_expression == expression else evaluate_expression(new_expression)
            stored = _store(result if exact is None else _format_number(exact), recorder)
            original = parse_number(result)
            if original is not None:
                # The latest calculation with this result decides what later mentions refer to.
                changed.pop(original, None)
                if stored != result:
                    changed[original] = stored
            pieces.append(f"<<{new_expression}={stored}>>{_repeat(repeated, result, stored)}")
            position = annotation.end()
        return "".join([*pieces, _replace_numbers(response[position:], changed)])


def _repeat(repeated: str | None, result: str, stored: str) -> str:
    """Return the text after a calculation, which repeats the stored result if it repeated the original one."""
    if repeated is None or stored == result:
        return repeated or ""
    blanks = repeated[: len(repeated) - len(repeated.lstrip())]
    return blanks + stored


def _replace_numbers(text: str, changed: dict[Fraction, str]) -> str:
    """Return a text with every number that has a changed value replaced."""
    if not changed:
        return text

    def replacement(number: re.Match[str]) -> str:
        value = parse_number(number.group())
        return number.group() if value is None else changed.get(value, number.group())

    return NUMBER.sub(replacement, text)


def _format_number(exact: Fraction) -> str:
    """Return a number with at most two decimal places."""
    return str(exact.numerator) if exact.denominator == 1 else f"{float(exact):.2f}".rstrip("0").rstrip(".")


def _store(text: str, recorder: TraceRecorder) -> str:
    """Return a number as the recorder stores its digits; the decimal point keeps its position."""
    digits = re.sub(r"\D", "", text)
    # Like a program, a recorder cannot replace digits of zero.
    if not digits or not int(digits):
        return text
    # A leading digit may have become zero; padding keeps every digit in its place.
    stored = str(recorder.integer(int(digits))).zfill(len(digits))
    if stored == digits:
        return text
    remaining = iter(stored)
    return "".join(next(remaining) if character.isdigit() else character for character in text)
