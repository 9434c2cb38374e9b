"""How prompts and traces are written as characters, how they are judged by executing them again, and how a run goes wrong."""

from __future__ import annotations

import abc
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisybench.data.targets import IGNORED
from noisybench.data.traces.machine import DIGITS, Follower, Machine, Unending, numbers, numbers_like
from noisybench.data.traces.programs import Program
from noisybench.errors import UserError

MOST = 250
"""Characters that a vocabulary may have."""


@dataclass(frozen=True)
class Step:
    """A part of a response that can be executed again.

    Attributes:
        start: first character.
        stop: the one after the last.
        right: whether it follows from the prompt and the steps before.
    """

    start: int
    stop: int
    right: bool


@dataclass(frozen=True)
class TraceCheck:
    """What executing one response again shows.

    Attributes:
        steps: in order; the last one is the answer.
        answer: as it is written, without blanks and thousands' commas; None where there is none that could be read.
        right: whether it is the program's; None where executing does not tell, because the prompt is no program.
    """

    steps: tuple[Step, ...]
    answer: str | None
    right: bool | None

    @property
    def right_steps(self) -> int:
        """How many steps are right."""
        return sum(each.right for each in self.steps)

    @property
    def replays(self) -> bool:
        """Whether all are."""
        return self.right_steps == len(self.steps)

    @property
    def first_wrong(self) -> int | None:
        """Number of the first wrong step, from 1."""
        return next((number for number, each in enumerate(self.steps, 1) if not each.right), None)


class TraceFormat(abc.ABC):
    """Contract of a format: characters, lines, the answer, and execution.

    Args:
        vocabulary: all characters, each a token; `end` is among them.

    Attributes:
        end: the character after the last one of a response.
        separator: between lines.
        answer_marks: texts of which the last one comes before the answer.
    """

    end = "$"
    separator = ";"
    answer_marks: tuple[str, ...] = ("#",)

    def __init__(self, vocabulary: str) -> None:
        if len(vocabulary) > MOST:
            raise UserError(
                f"dataset: the traces have {len(vocabulary)} different characters, but {MOST} fit; replace the rare ones"
            )
        if self.end not in vocabulary:
            raise UserError(f"dataset: the vocabulary lacks {self.end!r}, which ends a trace")
        self.vocabulary = vocabulary

    @abc.abstractmethod
    def follows(self, prompt: str, response: str) -> list[bool]:
        """Of every step of a response, as in `step_spans`, whether it follows from the prompt and the steps before."""

    @abc.abstractmethod
    def right(self, prompt: str, answer: str | None) -> bool | None:
        """Whether an answer is that of the prompt; None where executing does not tell."""

    def evaluator(self, prompt: str, response: str) -> TraceCheck:
        """Execute a response again; whatever it is, this gives an answer."""
        spans, answer = self.step_spans(response), self.answer(response)
        steps = tuple(Step(*span, fits) for span, fits in zip(spans, self.follows(prompt, response), strict=True))
        return TraceCheck(steps, answer, self.right(prompt, answer))

    @abc.abstractmethod
    def rerun(self, prompt: str, response: str, machine: Machine) -> str:
        """The response as it would be written, were it made on a machine.

        Raises:
            Unending: the run does not seem to end.
        """

    @abc.abstractmethod
    def recomputed(self, prompt: str, response: str) -> str:
        """The response with the answer that follows from its lines as they are written."""

    def step_spans(self, response: str) -> list[tuple[int, int]]:
        """First character of every step, and the one after its last; the answer is the last step."""
        return self.spans(*self.parts(response))

    def with_answer(self, response: str, other: str) -> str:
        """A response with the answer of another one."""
        return response[: self.step_spans(response)[-1][0]] + other[self.step_spans(other)[-1][0] :]

    def same_answer(self, written: str | None, wanted: str) -> bool:
        """Whether two answers are the same number or list of numbers."""
        return written is not None and numbers_like(wanted, written) == numbers(wanted)

    def answer(self, response: str) -> str | None:
        """The answer, without blanks; None where it is missing or no number."""
        tail = self.parts(response)[1]
        for mark in self.answer_marks:
            tail = tail.removeprefix(mark)
        found = tail.removesuffix(self.end).replace(" ", "")
        return found if DIGITS.fullmatch(found.replace(",", "")) else None

    def parts(self, response: str) -> tuple[list[str], str]:
        """Lines, and the rest: the answer with its mark, and the end."""
        place = max(response.rfind(each) for each in self.answer_marks)
        if place < 0:
            place = len(response)
        body, tail = response[:place], response[place:]
        return body.split(self.separator) if body else [], tail

    def spans(self, lines: Sequence[str], tail: str) -> list[tuple[int, int]]:
        """First and last character of every line and of the rest, without separators."""
        found, place = [], 0
        for each in lines:
            found.append((place, place + len(each)))
            place += len(each) + len(self.separator)
        start = max(0, place - len(self.separator)) if lines else 0
        return [*found, (start, start + len(tail))]

    # Characters

    @functools.cached_property
    def _numbers(self) -> NDArray[np.uint8]:
        """Tokens by code point."""
        found = np.full(max(map(ord, self.vocabulary)) + 1, IGNORED, dtype=np.uint8)
        found[[ord(each) for each in self.vocabulary]] = np.arange(len(self.vocabulary))
        return found

    @functools.cached_property
    def _points(self) -> NDArray[np.uint32]:
        """Code points by token."""
        return np.array([ord(each) for each in self.vocabulary], dtype="<u4")

    def encode(self, texts: Sequence[str], length: int, left: bool = False) -> NDArray[np.uint8]:
        """(N, length) tokens of texts, `IGNORED` after their ends, or before them.

        Raises:
            UserError: one is longer, or has a character that is not in the vocabulary.
        """
        sizes = np.fromiter((len(each) for each in texts), dtype=np.int64, count=len(texts))
        if sizes.max(initial=0) > length:
            row = int(sizes.argmax())
            raise UserError(f"traces: number {row} has {sizes[row]} characters, but {length} fit")
        points = np.frombuffer("".join(texts).encode("utf-32-le"), dtype="<u4")
        inside = points < len(self._numbers)
        tokens = self._numbers[np.where(inside, points, 0)]
        unknown = np.flatnonzero(~inside | (tokens == IGNORED))
        if len(unknown):
            row = int(np.searchsorted(np.cumsum(sizes), unknown[0], side="right"))
            raise UserError(
                f"traces: number {row} has the character {chr(points[unknown[0]])!r}, which the vocabulary lacks; it has "
                f"{self.vocabulary!r}"
            )
        found = np.full((len(texts), length), IGNORED, dtype=np.uint8)
        columns = np.arange(length)
        chosen = columns >= (length - sizes)[:, None] if left else columns < sizes[:, None]
        found[chosen] = tokens
        return found

    def decode(self, tokens: NDArray[np.uint8]) -> list[str]:
        """Texts of (N, T) tokens, up to their end, or as far as there are some; `IGNORED` before them is passed over."""
        end = self.vocabulary.index(self.end)
        valid = tokens != IGNORED
        ended = np.cumsum(tokens == end, axis=1)
        valid &= (ended == 0) | ((tokens == end) & (ended == 1))
        if not len(tokens):
            return []
        text = self._points[tokens[valid]].tobytes().decode("utf-32-le")
        stops = np.cumsum(valid.sum(1)).tolist()
        return [text[start:stop] for start, stop in zip([0, *stops[:-1]], stops, strict=True)]


CHARACTERS = "0123456789+-*/=%,:;#$abcdefghijklmnopqrstuvwxyz."


class ProgramTraces(TraceFormat):
    """Traces of one program: lines with semicolons between them, ``#`` and the answer, ``$``.

    Args:
        program: for some width and number of operands; prompts of other sizes are run as well.
    """

    def __init__(self, program: Program) -> None:
        super().__init__(CHARACTERS)
        self.program = program

    def follows(self, prompt: str, response: str) -> list[bool]:
        """Each line against the program's, run from what is written before it; then the answer."""
        program, operands = self.program.read(prompt)
        lines, tail = self.parts(response)
        follower = Follower(lines)
        try:
            _, followed = program.trace(operands, follower)
            complete = (
                follower.complete and tail.endswith(self.end) and self.same_answer(self.answer(response), followed)
            )
        except Unending:
            complete = False
        return [*follower.right, *[False] * (len(lines) - len(follower.right)), complete]

    def right(self, prompt: str, answer: str | None) -> bool:
        """Against a clean run's."""
        return self.same_answer(answer, self.right_answer(prompt))

    def right_answer(self, prompt: str) -> str:
        """The answer of a clean run."""
        program, operands = self.program.read(prompt)
        return program.trace(operands, Machine())[1]

    def rerun(self, prompt: str, response: str, machine: Machine) -> str:
        """A run on the machine."""
        program, operands = self.program.read(prompt)
        return self.written(*program.trace(operands, machine))

    def recomputed(self, prompt: str, response: str) -> str:
        """The program followed along the lines; what cannot be read counts as right."""
        program, operands = self.program.read(prompt)
        lines, _ = self.parts(response)
        try:
            return self.written(lines, program.trace(operands, Follower(lines))[1])
        except Unending:
            return response

    def written(self, lines: Sequence[str], answer: str) -> str:
        """A response."""
        return f"{self.separator.join(lines)}{self.answer_marks[0]}{answer}{self.end}"
