r"""Final answers in responses: where they stand, and how they are compared.

An `AnswerFormat` finds the answer of a response: after ``#### ``, in ``\boxed{}``, after "The answer is", as the letter of a
choice, or as the whole response. `find_answers` chooses the one that fits the reference responses of a file.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from noisybench.errors import UserError, show

NEARLY_ALL = 0.9
"""Fraction of the reference answers that a format must read to be recognized at once."""

MIN_READABLE = 0.5
"""Fraction of the reference answers below which scores would be meaningless."""

TAIL_LENGTH = 60
"""Number of characters that a message shows of the end of a response."""

MAX_SAMPLE = 2000
"""Number of responses, about, by which the format is chosen."""

MAX_PROSE = 200
"""Largest number of characters among which a number is searched."""

HASHES = re.compile(r"(?:\A|\n)#### |\nA: ")
ANSWER_IS = re.compile(
    r"\banswer\**(?: to [^.\n]{1,80}?)?(?:\s+is|\s*[:=：])\**:?\s*|答案\s*(?:是|为|為|[:：])[:：]?\s*|答えは\s*",
    re.IGNORECASE,
)
CLAUSE_END = re.compile(r"[.,;!?](?=\s|$|\*)|[。，；！？\n]")
CHOICE = re.compile(r"\(([A-J])\)")
LEADING_CHOICE = re.compile(r"\(([A-J])\)|([A-J])\)(?=\s|$)")
ONLY_CHOICE = re.compile(r"\s*(?:\(([A-J])\)|([A-J])(?:[).:](?=\s|$)|(?=\s*$)))[^\n]*\s*")
BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
NUMBER = re.compile(r"[-−+]?\s?[$€£]?(?:\d[\d,]*(?:\.\d+)?(?:\s?/\s?\d+)?|\.\d+)\s?%?(?![A-Za-z](?![A-Za-z]))")
FRACTION = re.compile(r"([-+]?)\\[dt]?frac\s*\{([-+]?\d+)\}\s*\{(\d+)\}")
WRAPPER = re.compile(r"\\(?:text(?:bf|rm|it)?|mathrm|mathbf|mbox|boxed|fbox)\s*\{([^{}]*)\}")
HUGE_EXPONENT = re.compile(r"[eE][-+]?[\d_]{4,}")


@dataclass(frozen=True)
class Located:
    """Place of an answer in a response.

    Attributes:
        start: position of the mark before the answer.
        content: position of its first character.
        stop: position after its last character.
    """

    start: int
    content: int
    stop: int


@dataclass(frozen=True)
class AnswerFormat:
    r"""Place and kind of the answers of a dataset.

    Attributes:
        name: ``hashes``, ``boxed``, ``answer_is``, ``choice`` or ``response``.
        numeric: whether answers are numbers; otherwise, they are compared as texts.

    Example:
        >>> boxed = AnswerFormat("boxed", numeric=False)
        >>> boxed.read(r"So $x = \boxed{\frac{1}{2}}$."), boxed.read(r"\boxed{x^{2}}"), boxed.read("1/2")
        ('1/2', 'x^{2}', None)
        >>> AnswerFormat("answer_is", numeric=True).read("The answer is **1,250** dollars, or so.")
        '1250'
    """

    name: str = "hashes"
    numeric: bool = True

    def locate(self, response: str) -> Located | None:
        """Return the place of the answer in a response without end mark; None if it has no mark."""
        return FINDERS[self.name](response)

    def read(self, response: str) -> str | None:
        """Return the answer in a form that is equal for equal answers, or None if there is none."""
        located = self.locate(response)
        return None if located is None else self.normalize(response[located.content : located.stop])

    def normalize(self, text: str) -> str | None:
        """Return the text of an answer in a form that is equal for equal answers; None if it cannot be read."""
        if self.numeric:
            value = parse_number(text) if self.name == "hashes" else _number_in(text, is_prose=self.name == "answer_is")
            return None if value is None else str(value)
        if self.name == "choice":
            letter = CHOICE.search(text) or ONLY_CHOICE.fullmatch(text)
            return next((group for group in letter.groups() if group), None) if letter else None
        return normalize_text(text) or None


def parse_number(text: str) -> Fraction | None:
    """Return the value of a number with thousands separators, dollar or percent sign, or None if it is not a number.

    Example:
        >>> parse_number("$1,250"), parse_number("50%"), parse_number("ten")
        (Fraction(1250, 1), Fraction(1, 2), None)
    """
    cleaned = text.strip().replace(",", "").replace("$", "")
    is_percentage = cleaned.endswith("%")
    # The value of 1e999999999 or 1e9_9_9_9_9 would fill the memory.
    if HUGE_EXPONENT.search(cleaned):
        return None
    try:
        value = Fraction(cleaned.removesuffix("%"))
    except (ValueError, ZeroDivisionError):
        return None
    return value / 100 if is_percentage else value


def normalize_text(text: str) -> str:
    r"""Return a text without markup, spacing and case; a number as its value, and a choice as its letter.

    Example:
        >>> normalize_text(r" **\text{New  York}**. "), normalize_text("0.50"), normalize_text("(B) Paris")
        ('new york', '1/2', 'B')
    """
    cleaned = _without_markup(text)
    value = parse_number(cleaned)
    if value is not None:
        return str(value)
    if choice := LEADING_CHOICE.match(cleaned):
        return choice.group(1) or choice.group(2)
    # Single letters are choices or variables, whose case differs by chance.
    return cleaned.upper() if len(cleaned) == 1 else " ".join(cleaned.casefold().split())


def find_answers(
    responses: Sequence[str], locations: Sequence[str], name: str | None = None, is_numeric: bool | None = None
) -> tuple[AnswerFormat, list[str | None]]:
    r"""Return the named format, or the one that fits the responses, and the answers that it reads.

    Several formats may fit nearly all responses; then explicit marks count first, in the order of `FINDERS`.

    Args:
        responses: reference responses without end marks.
        locations: file and number of each, for messages.
        name: name of the format, if it is known.
        is_numeric: whether answers are numbers, if it is known.

    Raises:
        UserError: fewer than half of the answers can be read, or the marks ``####`` and ``\boxed{}`` disagree.

    Example:
        >>> find_answers(["1+1=2, so the answer is 2."], ["x.jsonl: line 1"])
        (AnswerFormat(name='answer_is', numeric=True), ['2'])
    """
    # Evenly spaced, because files may be sorted by their source.
    sample = slice(None, None, max(1, len(responses) // MAX_SAMPLE))
    answer_format = _choose(responses[sample], locations[sample], name, is_numeric)
    answers = [answer_format.read(response) for response in responses]
    if sum(answer is not None for answer in answers) < MIN_READABLE * len(responses):
        _refuse(responses, locations, answers, name)
    return answer_format, answers


def _choose(
    responses: Sequence[str], locations: Sequence[str], name: str | None, is_numeric: bool | None
) -> AnswerFormat:
    """Return the format that reads nearly all answers, or else most of them.

    Raises:
        UserError: two explicit marks disagree.
    """
    names = [name] if name else list(FINDERS)
    contents = {each: [_content(each, response, is_named=name is not None) for response in responses] for each in names}
    formats = {each: _with_kind(each, contents[each], is_numeric) for each in names}
    answers = {
        each: [None if content is None else formats[each].normalize(content) for content in contents[each]]
        for each in names
    }
    counts = {each: sum(answer is not None for answer in found) for each, found in answers.items()}
    fitting = [each for each in names if counts[each] >= NEARLY_ALL * len(responses)]
    if fitting[:2] == ["hashes", "boxed"]:
        for location, hashed, boxed in zip(locations, answers["hashes"], answers["boxed"], strict=True):
            if None not in (hashed, boxed) and hashed != boxed:
                raise UserError(
                    f"{location}: its answer is {show(hashed)} after `####` and {show(boxed)} in \\boxed{{}}; set "
                    "dataset.answer_format=hashes or dataset.answer_format=boxed"
                )
    return formats[fitting[0] if fitting else max(names, key=counts.__getitem__)]


def _content(name: str, response: str, is_named: bool) -> str | None:
    """Return the text of the answer in a response; of a whole response, only if it is short or the format is named."""
    # Of a whole response, only a number shows that it is an answer and not a text that has one.
    if name == "response" and not is_named and (len(response) > MAX_PROSE or parse_number(response) is None):
        return None
    located = FINDERS[name](response)
    return None if located is None else response[located.content : located.stop]


def _with_kind(name: str, contents: Sequence[str | None], is_numeric: bool | None) -> AnswerFormat:
    """Return the format with the kind of its answers: numbers if nearly all answers that are found are numbers."""
    if is_numeric is None:
        number, text = (AnswerFormat(name, numeric) for numeric in (True, False))
        found = [content for content in contents if content is not None]
        num_texts = sum(text.normalize(content) is not None for content in found)
        num_numbers = sum(number.normalize(content) is not None for content in found)
        is_numeric = name != "choice" and num_numbers >= max(1, NEARLY_ALL * num_texts)
    return AnswerFormat(name, is_numeric)


def _refuse(
    responses: Sequence[str], locations: Sequence[str], answers: Sequence[str | None], name: str | None
) -> None:
    count = sum(answer is not None for answer in answers)
    example = next(position for position, answer in enumerate(answers) if answer is None)
    end = responses[example].rstrip()[-TAIL_LENGTH:]
    setting = f" as dataset.answer_format={name}" if name else ""
    raise UserError(
        f"{locations[example]}: {count} of {len(responses)} reference answers can be read{setting}, so scores would be "
        f"meaningless; this response ends in {show(end, limit=TAIL_LENGTH + 20)}. Answers follow `#### ` (hashes) or `The answer "
        "is` (answer_is), stand in `\\boxed{}` (boxed), or are a choice such as `(B)` (choice); set dataset.answer_format to one "
        "of these, dataset.answer_format=response if the whole response is the answer, or dataset.answer_field to a field with "
        "the answer"
    )


def _hashes(response: str) -> Located | None:
    """Find the last ``#### `` or ``A: `` at the start of a line."""
    match = _last(HASHES, response)
    return None if match is None else Located(match.start(), match.end(), len(response))


def _boxed(response: str) -> Located | None:
    r"""Find the content of the last ``\boxed{}`` whose braces are complete."""
    for match in reversed(list(BOX.finditer(response))):
        depth = 1
        for position in range(match.end(), len(response)):
            depth += {"{": 1, "}": -1}.get(response[position], 0) if response[position - 1] != "\\" else 0
            if not depth:
                return Located(match.start(), match.end(), position)
    return None


def _answer_is(response: str) -> Located | None:
    """Find the clause after the last "answer is"."""
    match = _last(ANSWER_IS, response)
    if match is None or match.end() == len(response):
        return None
    # A thousands separator or a decimal point has no blank after it, so it does not end the clause.
    end = CLAUSE_END.search(response, match.end())
    return Located(match.start(), match.end(), end.start() if end else len(response))


def _choice(response: str) -> Located | None:
    """Find the last letter in parentheses, or the letter that a response of one line consists of or begins with."""
    if match := ONLY_CHOICE.fullmatch(response):
        return Located(0, 0, len(response))
    match = _last(CHOICE, response)
    return None if match is None else Located(match.start(), match.start(), match.end())


def _response(response: str) -> Located | None:
    """Return the whole response."""
    return Located(0, 0, len(response)) if response.strip() else None


FINDERS: dict[str, Callable[[str], Located | None]] = {
    "hashes": _hashes,
    "boxed": _boxed,
    "answer_is": _answer_is,
    "choice": _choice,
    "response": _response,
}
"""Function that finds the answer in a response, by the name of the format; explicit marks first."""


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    match = None
    for match in pattern.finditer(text):  # noqa: B007
        pass
    return match


def _number_in(text: str, is_prose: bool) -> Fraction | None:
    """Return the value of a text that is a number, or of prose that has exactly one."""
    cleaned = re.sub(r"^[A-Za-z]\s*=\s*", "", _without_markup(text))
    value = parse_number(cleaned)
    if value is not None or not is_prose or len(cleaned) > MAX_PROSE:
        return value
    # Of a calculation, only its result is the answer.
    numbers = NUMBER.findall(cleaned.rpartition("=")[2])
    if len(numbers) != 1:
        return None
    return parse_number(re.sub(r"\s|[€£]", "", numbers[0]).replace("−", "-"))


def _without_markup(text: str) -> str:
    """Return a text without the markup of LaTeX and Markdown that does not change what it means."""
    cleaned = unicodedata.normalize("NFC", text)
    cleaned = FRACTION.sub(r"\1\2/\3", re.sub(r"\\[!,;: ]|\\left(?![a-z])|\\right(?![a-z])", "", cleaned))
    cleaned = WRAPPER.sub(r" \1 ", cleaned).replace("{,}", ",").replace("\\%", "%").replace("\\$", "").replace("−", "-")
    cleaned = cleaned.strip().strip("*`_").strip()
    # Dollar signs around a formula; a single one before a number is money, which `parse_number` knows.
    if len(cleaned) > 1 and cleaned[0] == cleaned[-1] == "$":
        cleaned = cleaned.strip("$").strip()
    return cleaned.rstrip(".。,;!").strip("*`_ ").rstrip("$").strip()
