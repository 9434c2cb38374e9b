"""Schemas of fine-tuning files: fields that hold a prompt and its response, as text or as a conversation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from noisybench.data.notes import ReadingNote, reading_note
from noisybench.data.traces.rows import Row
from noisybench.errors import UserError, show

ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant",
    "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "tool": "tool", "function": "tool",
    "function_response": "tool", "observation": "tool", "function_call": "assistant",
}  # fmt: skip
"""Role of each message by the word of the file."""

RESPONSE_WORDS = ("response", "completion", "output", "solution", "rationale", "reasoning", "generation", "chosen")
"""Fields beside `question` and `answer` that show that `answer` may be the final answer alone."""

MAX_LISTED = 12
"""Largest number of fields that a message lists."""

TURNS_NOTE = (
    "Conversations of several messages: the last assistant message is the response, and all messages before it, each "
    "after its role, are the prompt"
)
LEFT_NOTE = "Messages after the last assistant message have no response and were left out"


@dataclass(frozen=True)
class Message:
    """One message of a conversation: `system`, `user`, `assistant` or `tool`, and its text."""

    role: str
    text: str


@dataclass(frozen=True)
class Exchange:
    """Prompt and response of one row.

    Attributes:
        prompt: text of a single message, or of several messages after their roles.
        response: text of the last assistant message.
        fields: all fields of the row that are not a part of prompt and response.
        num_messages: number of messages in the prompt.
        num_left: number of messages after the response.
    """

    prompt: str
    response: str
    fields: Mapping[str, Any]
    num_messages: int = 1
    num_left: int = 0


@dataclass(frozen=True)
class Schema:
    """Fields of one schema.

    Attributes:
        required: fields that a row must have.
        conversation: returns the messages of a row.
        optional: further fields that are read.
    """

    required: tuple[str, ...]
    conversation: Callable[[Row, Schema], list[Message]]
    optional: tuple[str, ...] = ()

    def fits(self, row: Row) -> bool:
        """Return whether a row has the required fields."""
        return all(row.fields.get(field) is not None for field in self.required)

    def read(self, row: Row) -> Exchange:
        """Return the prompt and the response of a row.

        Raises:
            UserError: the row has no text in a field, or no assistant message.
        """
        messages = self.conversation(row, self)
        last = max((number for number, message in enumerate(messages) if message.role == "assistant"), default=-1)
        if last < 0:
            raise UserError(f"{row.location} has no message of the assistant, which would be the response; remove it")
        if last == 0:
            raise UserError(f"{row.location} has no message before that of the assistant, so no prompt; remove it")
        before = messages[:last]
        prompt = before[0].text if len(before) == 1 else "\n\n".join(f"{each.role}: {each.text}" for each in before)
        used = {*self.required, *self.optional}
        fields = {name: value for name, value in row.fields.items() if name not in used}
        return Exchange(prompt, messages[last].text, fields, len(before), len(messages) - last - 1)


def find_schema(rows: Sequence[Row], name: str | None = None) -> Schema:
    """Return the schema of a file: the named one, or the one that its rows fit.

    Raises:
        UserError: rows fit no schema, several ones, or different ones; the message names their lines.

    Example:
        >>> schema = find_schema([Row("x.jsonl: line 1", "line 1", {"instruction": "Add 1 and 2.", "output": "3"})])
        >>> schema.required
        ('instruction', 'output')
    """
    if name is not None:
        schema = SCHEMAS[name]
        _check_all_fit(schema, rows, f"dataset.row_schema={name}")
        return schema
    first, fitting = rows[0], _fitting(rows[0])
    if not fitting:
        _refuse_null(first)
        known = "; ".join(f"{name} ({', '.join(schema.required)})" for name, schema in SCHEMAS.items())
        raise UserError(
            f"{first.location} fits no known schema; it has the fields {_listed(first)}. Known are {known}. Name other "
            "fields with dataset.prompt_field and dataset.response_field"
        )
    alternatives = [field for field in RESPONSE_WORDS if any(field in row.fields for row in rows)]
    if len(fitting) > 1 or (fitting == ["question_answer"] and alternatives):
        options = " or ".join(f"dataset.row_schema={name}" for name in fitting)
        response = alternatives[0] if fitting == ["question_answer"] else SCHEMAS[fitting[0]].required[-1]
        raise UserError(
            f"{first.location}: its fields {_listed(first)} can be read in several ways; set {options}, or name the fields "
            f"(dataset.prompt_field={SCHEMAS[fitting[0]].required[0]} dataset.response_field={response}, and "
            "dataset.answer_field if the final answer has a field of its own)"
        )
    for row in rows[1:]:
        if (others := _fitting(row)) != fitting:
            if not others:
                _refuse_null(row)
            description = f"has the schema {' and '.join(others)}" if others else f"has the fields {_listed(row)}"
            raise UserError(
                f"{row.location} {description}, but {first.name} has the schema {fitting[0]} "
                f"({', '.join(SCHEMAS[fitting[0]].required)}); a file must have one schema"
            )
    return SCHEMAS[fitting[0]]


def has_schema(fields: Iterable[str]) -> bool:
    """Return True if a schema has its prompt and response among some fields.

    Example:
        >>> has_schema(["id", "question", "answer"]), has_schema(["id", "question"])
        (True, False)
    """
    names = set(fields)
    return any(names >= set(schema.required) for schema in SCHEMAS.values())


def pair_fields(fields: Iterable[str], response: str | None = None) -> tuple[str, str] | None:
    """Return the fields of prompt and response among some fields, if one schema of two texts fits; None otherwise.

    Args:
        fields: names of fields.
        response: field of the response, if it is known.

    Example:
        >>> pair_fields(["id", "question", "answer"]), pair_fields(["prompt", "text"])
        (('question', 'answer'), None)
    """
    names = set(fields)
    pairs = [schema.required for schema in SCHEMAS.values() if schema.conversation is _pair]
    fitting = [(pair[0], pair[1]) for pair in pairs if names >= set(pair) and response in (None, pair[1])]
    return fitting[0] if len(fitting) == 1 else None


def has_trace_columns(path: Path) -> bool:
    """Return True for a parquet file that has the columns of a schema.

    Example:
        >>> has_trace_columns(Path("/proc/nosuch.parquet"))
        False
    """
    import pyarrow.parquet

    try:
        return has_schema(pyarrow.parquet.read_schema(path).names)
    except Exception:  # other and damaged files, which their readers report
        return False


def named_fields(rows: Sequence[Row], prompt_field: str, response_field: str) -> Schema:
    """Return a schema of two named fields, each with a text or a list of messages.

    Raises:
        UserError: a row lacks one of them.
    """
    if prompt_field == response_field:
        raise UserError(f"dataset.response_field: must differ from dataset.prompt_field, but both are `{prompt_field}`")
    schema = Schema((prompt_field, response_field), _pair)
    _check_all_fit(schema, rows, f"dataset.prompt_field={prompt_field} dataset.response_field={response_field}")
    return schema


def exchange_notes(exchanges: Sequence[Exchange], names: Sequence[str]) -> tuple[ReadingNote, ...]:
    """Return notes about conversations of several messages, messages without a response, and fields that are kept.

    Args:
        exchanges: prompts and responses of all rows.
        names: name of each row.
    """
    pairs = list(zip(exchanges, names, strict=True))
    others = sorted({field for exchange in exchanges for field in exchange.fields})
    return (
        *rows_note("several_messages", TURNS_NOTE, [name for each, name in pairs if each.num_messages > 1], len(pairs)),
        *rows_note("unanswered_messages", LEFT_NOTE, [name for each, name in pairs if each.num_left], len(pairs)),
        *reading_note("kept_fields", "Fields kept beside the traces, which are not trained on", others),
    )


def rows_note(kind: str, text: str, names: Sequence[str], total: int) -> tuple[ReadingNote, ...]:
    """Return a note about some rows, which are named unless they are all rows of the file.

    Example:
        >>> [str(note) for note in rows_note("dark", "Images are dark", ["line 1", "line 2"], 2)]
        ['Images are dark (2)']
    """
    notes = reading_note(kind, text, names)
    return tuple(replace(note, names=()) for note in notes) if len(names) == total > 1 else notes


def response_text(value: Any, row: Row, field: str) -> str:
    """Return a response that is a text, or a list of messages of which the last one counts.

    Raises:
        UserError: it is anything else.
    """
    return _messages(value, row, field, "assistant")[-1].text


def _check_all_fit(schema: Schema, rows: Sequence[Row], setting: str) -> None:
    for row in rows:
        missing = [field for field in schema.required if row.fields.get(field) is None]
        if missing:
            raise UserError(f"{row.location} lacks the field `{missing[0]}` of {setting}; it has {_listed(row)}")


def _pair(row: Row, schema: Schema) -> list[Message]:
    """Return the messages of two fields, each a text or a list of messages."""
    prompt, response = schema.required
    return [
        *_messages(row.fields[prompt], row, prompt, "user"),
        *_messages(row.fields[response], row, response, "assistant"),
    ]


def _list(row: Row, schema: Schema) -> list[Message]:
    """Return the messages of one field."""
    (field,) = schema.required
    value = row.fields[field]
    if not isinstance(value, list):
        raise UserError(f"{row.location}: `{field}` must be a list of messages, but is {show(value, limit=40)}")
    return _messages(value, row, field, "user")


def _alpaca(row: Row, schema: Schema) -> list[Message]:
    """Return instruction with its input, and output, after the system message and earlier turns if there are some."""
    texts = {field: row.fields.get(field) or "" for field in ("system", "instruction", "input", "output")}
    for field, text in texts.items():
        if not isinstance(text, str):
            raise UserError(f"{row.location}: `{field}` must be a text, but is {show(text, limit=40)}")
    history = row.fields.get("history") or []
    pairs = isinstance(history, list) and all(isinstance(turn, list) and len(turn) == 2 for turn in history)
    if not pairs:
        raise UserError(f"{row.location}: `history` must be a list of pairs of an instruction and its output")
    earlier = [
        message
        for turn in history
        for role, text in zip(("user", "assistant"), turn, strict=True)
        for message in _messages(text, row, "history", role)
    ]
    question = "\n\n".join(text for text in (texts["instruction"], texts["input"]) if text)
    system = [Message("system", texts["system"])] if texts["system"] else []
    return [*system, *earlier, Message("user", question), Message("assistant", texts["output"])]


SCHEMAS: dict[str, Schema] = {
    "messages": Schema(("messages",), _list),
    "sharegpt": Schema(("conversations",), _list),
    "alpaca": Schema(("instruction", "output"), _alpaca, optional=("input", "system", "history")),
    "prompt_response": Schema(("prompt", "response"), _pair),
    "prompt_completion": Schema(("prompt", "completion"), _pair),
    "question_answer": Schema(("question", "answer"), _pair),
    "problem_solution": Schema(("problem", "solution"), _pair),
}


def _messages(value: Any, row: Row, field: str, role: str) -> list[Message]:
    """Return a text as one message of a role, or the messages of a list."""
    if isinstance(value, str):
        return [Message(role, value)]
    if not isinstance(value, list) or not value:
        raise UserError(
            f"{row.location}: `{field}` must be a text or a list of messages, but is {show(value, limit=40)}"
        )
    return [_message(item, f"{row.location}: message {number} of `{field}`") for number, item in enumerate(value, 1)]


def _message(item: Any, location: str) -> Message:
    """Return a message with the fields `role` and `content`, or `from` and `value`."""
    keys = next(
        (keys for keys in (("role", "content"), ("from", "value")) if isinstance(item, dict) and keys[0] in item), None
    )
    if keys is None:
        raise UserError(
            f"{location} must have `role` and `content`, or `from` and `value`, but is {show(item, limit=40)}"
        )
    role, content = item[keys[0]], item.get(keys[1])
    if not isinstance(role, str) or role.lower() not in ROLES:
        raise UserError(f"{location} has the role {show(role, limit=40)}; allowed are {', '.join(ROLES)}")
    if isinstance(content, list):
        content = "".join(_part(part, location) for part in content)
    if not isinstance(content, str):
        raise UserError(f"{location} has no text in `{keys[1]}`: {show(content, limit=40)}")
    return Message(ROLES[role.lower()], content)


def _part(part: Any, location: str) -> str:
    """Return the text of one part of a message."""
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and part.get("type", "text") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    raise UserError(f"{location} has a part of the type {show(kind, limit=40)}; only parts of text can be read")


def _refuse_null(row: Row) -> None:
    """Refuse a row that has the fields of a schema, but null in one of them."""
    for schema in SCHEMAS.values():
        empty = [field for field in schema.required if row.fields.get(field, "") is None]
        if empty and row.fields.keys() >= set(schema.required):
            raise UserError(f"{row.location}: `{empty[0]}` is null; write a text, or remove the row")


def _fitting(row: Row) -> list[str]:
    """Return the names of the schemas that a row fits."""
    return [name for name, schema in SCHEMAS.items() if schema.fits(row)]


def _listed(row: Row) -> str:
    names = [show(name, quotes=False, limit=30) for name in row.fields]
    return (", ".join(names[:MAX_LISTED]) + (", …" if len(names) > MAX_LISTED else "")) or "none"
