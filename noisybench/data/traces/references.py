"""Reference answers of a file: those of its responses, or those of a field."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from noisybench.data.notes import ReadingNote, reading_note
from noisybench.data.traces.answers import FINDERS, MIN_READABLE, NEARLY_ALL, AnswerFormat, find_answers
from noisybench.errors import UserError, show

PLACES = {
    "hashes": "after `#### ` or `A: `",
    "boxed": "in `\\boxed{}`",
    "answer_is": "after `The answer is`",
    "choice": "as the letter of a choice",
    "response": "from whole responses",
}
"""Place of the answers of each format in a sentence."""


@dataclass(frozen=True)
class Example:
    """One example whose answer is read.

    Attributes:
        prompt: text of the prompt.
        response: clean response without end mark.
        location: file and number of the row.
        name: number of the row.
        gold: value of the field with the answer, if there is one.
    """

    prompt: str
    response: str
    location: str
    name: str
    gold: Any = None


@dataclass(frozen=True)
class References:
    """Reference answers of a file.

    Attributes:
        answers: place and kind of the answers in responses.
        gold_answers: answers of the field by prompt, normalized; empty without a field.
        notes: answers that cannot be read, and the format that was found.
    """

    answers: AnswerFormat
    gold_answers: Mapping[str, str]
    notes: tuple[ReadingNote, ...]


def find_references(
    examples: Sequence[Example], format_name: str | None = None, field: str | None = None
) -> References:
    """Read the reference answers, and refuse a file of which few can be read.

    Args:
        examples: all examples.
        format_name: name of the format of the answers in responses, if it is known.
        field: field with the answers, if there is one.

    Raises:
        UserError: fewer than half of the answers can be read, or one prompt has two answers.

    Example:
        >>> examples = [Example(f"{n}+1=", f"So the answer is {n + 1}.", f"x: line {n}", f"line {n}") for n in range(9)]
        >>> [str(note) for note in find_references(examples).notes]
        ['Answers are read after `The answer is`, as numbers (9)']
    """
    golds = [None if field is None else _gold_text(example, field) for example in examples]
    given = [gold for gold in golds if gold is not None]
    numbers = [gold for gold in given if AnswerFormat("response").normalize(gold) is not None]
    is_numeric = len(numbers) >= max(1, NEARLY_ALL * len(given)) if given else None
    responses, locations = [each.response for each in examples], [each.location for each in examples]
    answers, written = find_answers(responses, locations, format_name, is_numeric)
    notes: tuple[ReadingNote, ...] = ()
    if format_name is None and answers != AnswerFormat():
        kind = "numbers" if answers.numeric else "texts"
        notes = (ReadingNote("answer_format", f"Answers are read {PLACES[answers.name]}, as {kind}", len(examples)),)
    if field is None:
        unreadable = [each.name for each, answer in zip(examples, written, strict=True) if answer is None]
        text = "Reference answers cannot be read, so that every answer to these problems counts as incorrect"
        notes += reading_note("unreadable_answers", text, unreadable) + _disagreeing(examples, written)
        return References(answers, {}, notes)
    # The field has nothing but the answer; only letters of choices can have other text beside them.
    plain = answers if answers.name == "choice" else AnswerFormat("response", answers.numeric)
    normalized = [None if gold is None else plain.normalize(gold) for gold in golds]
    return _with_gold(examples, normalized, written, References(answers, {}, notes), field)


def _disagreeing(examples: Sequence[Example], answers: Sequence[str | None]) -> tuple[ReadingNote, ...]:
    """Return a note about clean responses that end in another answer than an earlier one to the same prompt."""
    first: dict[str, str] = {}
    others = [
        example.name
        for example, answer in zip(examples, answers, strict=True)
        if answer is not None and first.setdefault(example.prompt, answer) != answer
    ]
    text = "Responses end in another answer than earlier ones to the same prompt, and each counts as the correct one"
    return reading_note("several_answers", text, others)


def _with_gold(
    examples: Sequence[Example],
    golds: Sequence[str | None],
    written: Sequence[str | None],
    found: References,
    field: str,
) -> References:
    """Return references with the answers of a field.

    Raises:
        UserError: few of them can be read, or one prompt has two.
    """
    readable = sum(gold is not None for gold in golds)
    if readable < MIN_READABLE * len(golds):
        example = examples[golds.index(None)]
        raise UserError(
            f"{example.location}: {readable} of {len(golds)} answers in dataset.answer_field={field} can be read; here it is "
            f"{show(example.gold, limit=60)}. Answers must be numbers or texts"
        )
    first: dict[str, tuple[str, Example]] = {}
    for example, gold in zip(examples, golds, strict=True):
        if gold is None:
            continue
        earlier, of = first.setdefault(example.prompt, (gold, example))
        if earlier != gold:
            raise UserError(
                f"{example.location}: `{field}` is {show(example.gold, limit=40)}, but {show(of.gold, limit=40)} in {of.name} "
                "with the same prompt; a prompt must have one answer"
            )
    gold_answers = {prompt: gold for prompt, (gold, _) in first.items()}
    missing = [example.name for example in examples if example.prompt not in gold_answers]
    text = f"Answers in `{field}` cannot be read, so that every answer to these problems counts as incorrect"
    differing = [
        example.name
        for example, answer in zip(examples, written, strict=True)
        if example.prompt in gold_answers and answer != gold_answers[example.prompt]
    ]
    notes = reading_note("unreadable_answers", text, missing) + reading_note(
        "differing_answers", f"Responses end in another answer than `{field}`", differing
    )
    return dataclasses.replace(found, gold_answers=gold_answers, notes=found.notes + notes)


def _gold_text(example: Example, field: str) -> str | None:
    """Return the answer in a field as text, without a mark before it.

    Raises:
        UserError: the value is no text, number or truth value.
    """
    value = example.gold
    if value is None:
        return None
    if not isinstance(value, str | int | float):
        raise UserError(f"{example.location}: `{field}` must be a text or a number, but is {show(value, limit=40)}")
    text = str(value)
    for name in ("hashes", "boxed"):
        if located := FINDERS[name](text):
            return text[located.content : located.stop]
    return text
