"""Text formats of prompts and traces: conversion to tokens, and checks by re-execution."""

from __future__ import annotations

import abc
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.data.targets import IGNORED, Tokens
from noisybench.data.traces.recorder import DIGITS, TraceRecorder, parse_integers, parse_matching_integers
from noisybench.errors import UserError, shorten

PLACEHOLDER = "\uffff"
"""Entry of a vocabulary at the position `IGNORED`, so that no character has the number of a missing one. It is a code point
that Unicode reserves for uses such as this one."""


TOKEN_DTYPES: tuple[type[np.integer[Any]], ...] = (np.uint8, np.int16, np.int32)
"""Types of tokens; the first one that holds all numbers of a vocabulary is used. `IGNORED` is no token in any of them."""


@dataclass(frozen=True)
class Step:
    """Span of a response that can be re-executed.

    Attributes:
        start: position of the first character.
        stop: position after the last character.
        is_correct: whether the step follows from the prompt and the written steps before it.
    """

    start: int
    stop: int
    is_correct: bool


@dataclass(frozen=True)
class TraceCheck:
    """Result of re-executing one response.

    Attributes:
        steps: steps in order; the last one is the answer.
        answer: the written answer without blanks and thousands separators, or None if it is missing or unparsable.
        answer_is_correct: whether the answer is that of the program; None if the prompt is not a program.

    Example:
        >>> check = TraceCheck((Step(0, 5, True), Step(6, 8, False)), answer="7", answer_is_correct=False)
        >>> check.num_correct_steps, check.is_valid, check.first_error
        (1, False, 2)
    """

    steps: tuple[Step, ...]
    answer: str | None
    answer_is_correct: bool | None

    @property
    def num_correct_steps(self) -> int:
        """Number of correct steps."""
        return sum(step.is_correct for step in self.steps)

    @property
    def is_valid(self) -> bool:
        """Whether all steps are correct."""
        return self.num_correct_steps == len(self.steps)

    @property
    def first_error(self) -> int | None:
        """Number of the first incorrect step, counted from 1; None if all are correct."""
        return next((number for number, step in enumerate(self.steps, 1) if not step.is_correct), None)


def token_dtype(size: int) -> type[np.integer[Any]]:
    """Return the type of the tokens of a vocabulary with this number of entries.

    Examples:
        >>> [token_dtype(size).__name__ for size in (255, 256, 40_000)]
        ['uint8', 'int16', 'int32']
    """
    return next(dtype for dtype in TOKEN_DTYPES if size <= np.iinfo(dtype).max)


def make_vocabulary(characters: Iterable[str], end: str) -> str:
    """Return distinct characters in a fixed order, with the end mark last and `PLACEHOLDER` at the position `IGNORED`.

    Example:
        >>> make_vocabulary("abba", "$")
        'ab$'
        >>> make_vocabulary(map(chr, range(1000, 1400)), "$").index(PLACEHOLDER)
        255
    """
    # Sorted, because tokens are numbered by position and the order of a set differs between processes.
    vocabulary = "".join(sorted(set(characters) - {end})) + end
    return vocabulary if len(vocabulary) <= IGNORED else vocabulary[:IGNORED] + PLACEHOLDER + vocabulary[IGNORED:]


class TraceFormat(abc.ABC):
    """Contract of a trace format: its tokens, its lines, its answer, and their re-execution.

    Args:
        vocabulary: all characters, including `end`; each is one token, and of many, `PLACEHOLDER` is the token `IGNORED`.

    Attributes:
        dtype: type of the tokens.
        end: character that ends a response.
        separator: text between two lines.
        gold_answers: correct answers by prompt that the data have beside the responses; empty if they have none.
        answer_marks: texts of which the last occurrence precedes the answer.

    Example:
        >>> from noisybench.data.traces.builtin_programs import Add
        >>> from noisybench.data.traces.program_format import ProgramTraceFormat
        >>> trace_format = ProgramTraceFormat(Add(width=2, count=2))
        >>> tokens = trace_format.encode(["7+5+0=12;4+0+1=05#052$"], length=24)
        >>> tokens.shape, trace_format.decode(tokens)
        ((1, 24), ['7+5+0=12;4+0+1=05#052$'])
        >>> check = trace_format.check("47+05:", "7+5+0=13;4+0+1=05#052$")
        >>> check.first_error, check.answer_is_correct
        (1, True)
    """

    end = "$"
    separator = ";"
    answer_marks: tuple[str, ...] = ("#",)
    gold_answers: Mapping[str, str] = MappingProxyType({})

    def __init__(self, vocabulary: str) -> None:
        if self.end not in vocabulary:
            raise UserError(f"dataset: the vocabulary lacks {self.end!r}, which ends a trace")
        if vocabulary[IGNORED : IGNORED + 1] not in ("", PLACEHOLDER):
            raise UserError(
                f"dataset: the entry {IGNORED} of a vocabulary must be {PLACEHOLDER!r}; use `make_vocabulary`"
            )
        self.vocabulary = vocabulary
        self.dtype = token_dtype(len(vocabulary))

    @abc.abstractmethod
    def check_steps(self, prompt: str, response: str) -> list[bool]:
        """Return for every step of `step_spans` whether it follows from the prompt and the written steps before it."""

    @abc.abstractmethod
    def check_answer(self, prompt: str, answer: str | None) -> bool | None:
        """Return whether an answer is correct, or None if execution cannot decide it."""

    def check(self, prompt: str, response: str) -> TraceCheck:
        """Re-execute any text as a response to a prompt."""
        spans, answer = self.step_spans(response), self.extract_answer(response)
        step_checks = self.check_steps(prompt, response)
        steps = tuple(Step(*span, is_correct) for span, is_correct in zip(spans, step_checks, strict=True))
        return TraceCheck(steps, answer, self.check_answer(prompt, answer))

    def reference_answer(self, prompt: str, response: str) -> str | None:
        """Return the correct answer of a problem, given its clean response."""
        return self.extract_answer(response)

    @abc.abstractmethod
    def rerun(self, prompt: str, response: str, recorder: TraceRecorder) -> str:
        """Return the response that a run with the given recorder writes.

        Raises:
            NonTerminating: the run exceeds a limit.
        """

    @abc.abstractmethod
    def recompute_answer(self, prompt: str, response: str) -> str:
        """Return the response with the answer that follows from its written lines."""

    def step_spans(self, response: str) -> list[tuple[int, int]]:
        """Return the first and the past-the-end position of every step; the answer is the last step."""
        return self.line_spans(*self.split_response(response))

    def replace_answer(self, response: str, other: str) -> str:
        """Return a response with the answer of another one."""
        return response[: self.step_spans(response)[-1][0]] + other[self.step_spans(other)[-1][0] :]

    def answers_match(self, answer: str | None, expected: str) -> bool:
        """Return whether two answers are the same number or list of numbers; leading zeros do not matter."""
        return answer is not None and parse_matching_integers(expected, answer) == parse_integers(expected)

    def extract_answer(self, response: str) -> str | None:
        """Return the answer without blanks, or None if it is missing or not a number."""
        answer = self._unmarked_answer(response).replace(" ", "")
        return answer if DIGITS.fullmatch(answer.replace(",", "")) else None

    def _unmarked_answer(self, response: str) -> str:
        answer = self.split_response(response)[1]
        for mark in self.answer_marks:
            answer = answer.removeprefix(mark)
        return answer.removesuffix(self.end)

    def split_response(self, response: str) -> tuple[list[str], str]:
        """Return the lines of a response, and the rest: the answer with its mark and the end."""
        # The last mark counts, because noise can write a mark into a line as well.
        answer_start = max(response.rfind(mark) for mark in self.answer_marks)
        if answer_start < 0:
            answer_start = len(response)
        body, tail = response[:answer_start], response[answer_start:]
        return body.split(self.separator) if body else [], tail

    def line_spans(self, lines: Sequence[str], tail: str) -> list[tuple[int, int]]:
        """Return the first and the past-the-end position of every line and of the rest, without separators."""
        spans, start = [], 0
        for line in lines:
            spans.append((start, start + len(line)))
            start += len(line) + len(self.separator)
        # The tail follows the last line without a separator, which the loop has already counted.
        tail_start = max(0, start - len(self.separator)) if lines else 0
        return [*spans, (tail_start, tail_start + len(tail))]

    @functools.cached_property
    def _token_of_code_point(self) -> Tokens:
        # `IGNORED` marks code points without a token, since no token has this value.
        tokens = np.full(max(map(ord, self.vocabulary)) + 1, IGNORED, dtype=self.dtype)
        tokens[[ord(character) for character in self.vocabulary]] = np.arange(len(self.vocabulary))
        return tokens

    @functools.cached_property
    def _code_point_of_token(self) -> NDArray[np.uint32]:
        return np.array([ord(character) for character in self.vocabulary], dtype="<u4")

    def encode(self, texts: Sequence[str], length: int, left: bool = False) -> Tokens:
        """Return (N, length) tokens of texts, padded with `IGNORED` on the right, or on the left.

        Raises:
            UserError: a text is too long, or has a character that is not in the vocabulary.
        """
        sizes = np.fromiter((len(text) for text in texts), dtype=np.int64, count=len(texts))
        if sizes.max(initial=0) > length:
            row = int(sizes.argmax())
            raise UserError(f"traces: trace {row} has {sizes[row]} characters, but the limit is {length}")
        # UTF-32 turns all texts into one array of code points, which a table maps to tokens without a Python loop.
        points = np.frombuffer("".join(texts).encode("utf-32-le"), dtype="<u4")
        in_table = points < len(self._token_of_code_point)
        # Code points beyond the table would be out of bounds; they read entry 0, and `in_table` reports them.
        tokens = self._token_of_code_point[np.where(in_table, points, 0)]
        unknown = np.flatnonzero(~in_table | (tokens == IGNORED))
        if len(unknown):
            # side="right" skips empty texts, which end where the next one starts.
            row = int(np.searchsorted(np.cumsum(sizes), unknown[0], side="right"))
            raise UserError(
                f"traces: trace {row} has the character {chr(points[unknown[0]])!r}, which is not in the vocabulary "
                f"{shorten(self.vocabulary, 120)!r}"
            )
        padded = np.full((len(texts), length), IGNORED, dtype=self.dtype)
        columns = np.arange(length)
        in_text = columns >= (length - sizes)[:, None] if left else columns < sizes[:, None]
        # A mask is filled row by row, which is the order of the joined texts.
        padded[in_text] = tokens
        return padded

    def decode(self, tokens: Tokens) -> list[str]:
        """Return the texts of (N, T) tokens up to and including the first end; `IGNORED` tokens are skipped."""
        if not len(tokens):
            return []
        is_end = tokens == self.vocabulary.index(self.end)
        num_ends = np.cumsum(is_end, axis=1)
        # Everything before the first end, and that end itself; a model may write more after it.
        is_text = (tokens != IGNORED) & ((num_ends == 0) | (is_end & (num_ends == 1)))
        joined = self._code_point_of_token[tokens[is_text]].tobytes().decode("utf-32-le")
        stops = np.cumsum(is_text.sum(1)).tolist()
        return [joined[start:stop] for start, stop in zip([0, *stops[:-1]], stops, strict=True)]
