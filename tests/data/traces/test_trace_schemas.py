"""Schemas of fine-tuning files are read as such, and damaged or ambiguous rows are refused by their number."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noisybench.data.traces.rows import Row, read_rows
from noisybench.data.traces.schemas import Exchange, exchange_notes, find_schema, named_fields
from noisybench.errors import UserError

USER, ASSISTANT = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}

SINGLE: dict[str, dict[str, Any]] = {
    "openai": {"messages": [USER, ASSISTANT]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Q"}]}, ASSISTANT]},
    "sharegpt": {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
    "mixed names": {"conversations": [USER, ASSISTANT]},
    "alpaca": {"instruction": "Q", "input": "", "output": "A"},
    "alpaca without input": {"instruction": "Q", "output": "A"},
    "completion": {"prompt": "Q", "completion": "A"},
    "conversational completion": {"prompt": [USER], "completion": [ASSISTANT]},
    "question": {"question": "Q", "answer": "A"},
    "response": {"prompt": "Q", "response": "A"},
    "problem": {"problem": "Q", "solution": "A", "answer": "1"},
}


def rows_of(*objects: dict[str, Any]) -> list[Row]:
    return [Row(f"x.jsonl: line {number}", f"line {number}", fields) for number, fields in enumerate(objects, 1)]


def read(*objects: dict[str, Any], name: str | None = None) -> list[Exchange]:
    rows = rows_of(*objects)
    schema = find_schema(rows, name)
    return [schema.read(row) for row in rows]


def written(folder: Path, text: str | bytes, name: str = "traces.jsonl") -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / name


@pytest.mark.parametrize("name", SINGLE)
def test_a_single_exchange_is_read_without_marks(name: str) -> None:
    (exchange,) = read({**SINGLE[name], "id": 7})
    assert (exchange.prompt, exchange.response) == ("Q", "A")
    assert exchange.fields == {"id": 7, **({"answer": "1"} if name == "problem" else {})}


def test_the_last_assistant_message_is_the_response_and_all_before_it_the_prompt() -> None:
    turns = [{"role": "system", "content": "S"}, USER, ASSISTANT, {"role": "user", "content": "Q2"}]
    (exchange,) = read({"messages": [*turns, {"role": "assistant", "content": "A2"}, USER]})
    assert exchange.prompt == "system: S\n\nuser: Q\n\nassistant: A\n\nuser: Q2"
    assert (exchange.response, exchange.num_left) == ("A2", 1)
    turns_note, left_note = exchange_notes([exchange], ["line 1"])
    assert str(turns_note).endswith("the prompt (1: line 1)")
    assert str(left_note).endswith("left out (1: line 1)")
    alpaca = {"instruction": "Q2", "input": "I", "output": "A2", "system": "S", "history": [["Q", "A"]]}
    (exchange,) = read(alpaca)
    assert exchange.prompt == "system: S\n\nuser: Q\n\nassistant: A\n\nuser: Q2\n\nI"


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([{"prompt": "Q", "response": "A"}, {"prompt": "Q", "completion": "A"}], "line 2 has the schema prompt_completion"),
        ([{"prompt": "Q", "response": "A"}, {"prompt": "Q"}], "line 2 has the fields `prompt`, but line 1"),
        ([{"prompt": "Q", "response": "A", "completion": "B"}], "several ways; set dataset.row_schema=prompt_response or"),
        ([{"question": "Q", "solution": "A", "answer": "1"}], "dataset.response_field=solution"),
        ([{"prompt": "Q", "response": None}], "line 1: `response` is null; write a text"),
        ([{"prompt": "Q", "response": "A"}, {"prompt": None, "response": "A"}], "line 2: `prompt` is null"),
        ([{"text": "Q"}], "line 1 fits no known schema; it has the fields `text`"),
        ([{"messages": [USER]}], "line 1 has no message of the assistant"),
        ([{"messages": [ASSISTANT]}], "no message before that of the assistant"),
        ([{"messages": []}], "must be a text or a list of messages"),
        ([{"messages": "Q"}], "must be a list of messages, but is 'Q'"),
        ([{"messages": [{"role": "narrator", "content": "Q"}]}], "message 1 of `messages` has the role 'narrator'"),
        ([{"messages": [USER, {"role": "assistant", "content": None}]}], "message 2 of `messages` has no text in `content`"),
        ([{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}], "part of the type 'image_url'"),
        ([{"instruction": "Q", "input": ["x"], "output": "A"}], "`input` must be a text"),
        ([{"instruction": "Q", "output": "A", "history": "x"}], "`history` must be a list of pairs"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_read_are_refused_by_number(objects: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        read(*objects)


def test_schema_and_fields_can_be_named() -> None:
    (exchange,) = read({"prompt": "Q", "response": "A", "completion": "B"}, name="prompt_completion")
    assert (exchange.response, exchange.fields) == ("B", {"response": "A"})
    rows = rows_of({"q": "Q", "a": [ASSISTANT]})
    assert named_fields(rows, "q", "a").read(rows[0]).response == "A"
    with pytest.raises(UserError, match="line 1 lacks the field `b`"):
        named_fields(rows, "q", "b")


def test_files_of_several_formats_have_the_same_rows(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    objects = [{"prompt": f"Q{n}\u2028", "response": "ä", "score": 0.5} for n in range(3)]
    lines = "\n".join(json.dumps(each) for each in objects)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(objects), tmp_path / "traces.parquet")
    for path in (
        written(tmp_path, lines, "plain.jsonl"),
        written(tmp_path, "\ufeff" + lines.replace("\n", "\r\n\r\n") + "\n", "windows.jsonl"),
        written(tmp_path, "\ufeff " + json.dumps(objects, indent=2, ensure_ascii=False), "array.json"),
        tmp_path / "traces.parquet",
    ):
        rows = read_rows(path)
        assert [row.fields for row in rows] == objects, path
    assert [row.name for row in rows] == ["row 1", "row 2", "row 3"]


HOSTILE: dict[str, tuple[str | bytes | Callable[[], str], str]] = {
    "truncated": ('{"prompt": "a"}\n{"prompt": ', "line 2 is not JSON"),
    "no object": ('{"prompt": "a"}\n"b"', "line 2 must be an object with named fields, but is of the type str"),
    "array of texts": ('["a"]', "entry 1 must be an object"),
    "unfinished array": ('[{"prompt": "a"},', "must hold one array of objects"),
    "repeated field": ('{"prompt": "a", "prompt": "b"}', "line 1 is not JSON (the field `prompt` occurs twice"),
    "repeated inner field": ('{"x": [{"role": "a", "role": "b"}]}', "`role` occurs twice"),
    "NUL": ('{"prompt": "a\x00"}', "line 1 is not JSON (Invalid control character"),
    "half of a character": ('{"prompt": "\\ud83d"}', "line 1 has \\ud83d, half of a character"),
    "half of a character in a name": ('{"\\udc00": 1}', "line 1 has \\udc00"),
    "deep": (lambda: '{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}", "line 1 is nested too deeply"),
    "deep but readable": (lambda: '{"x": ' + "[" * 200 + "]" * 200 + "}", "line 1 is nested more than 100 levels deep"),
    "NaN": ('{"score": NaN}', "NaN is not a value of JSON"),
    "infinite": ('{"score": 1e999}', "1e999 is too large a number"),
    "long number": (lambda: '{"score": ' + "1" * 5000 + "}", "line 1 is not JSON"),
    "UTF-16": ('{"prompt": "a"}'.encode("utf-16"), "not encoded in UTF-8"),
    "a mark in the middle": ('{"prompt": "a"}\n\ufeff{"prompt": "b"}', "line 2 is not JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_lines_are_refused_by_number(name: str, tmp_path: Path) -> None:
    content, message = HOSTILE[name]
    with pytest.raises(UserError, match=re.escape(message)):
        read_rows(written(tmp_path, content() if callable(content) else content))


def test_whole_characters_from_two_escapes_are_read(tmp_path: Path) -> None:
    (row,) = read_rows(written(tmp_path, '{"prompt": "\\ud83d\\ude00 \\u0000"}'))
    assert row.text("prompt") == "😀 \0"


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_rows(written(tmp_path, "PAR1", "traces.parquet"))
