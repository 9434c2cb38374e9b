"""Traces from a file of JSON lines, a JSON array, or parquet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.notes import ReadingNote
from noisybench.data.source import DatasetSource
from noisybench.data.splits.names import ROLES, Role, split_role
from noisybench.data.traces.builtin_programs import get_program_class, program_files
from noisybench.data.traces.formats import PLACEHOLDER, TraceFormat, make_vocabulary
from noisybench.data.traces.gsm8k_calculations import CalculationTraceFormat
from noisybench.data.traces.program_format import ProgramTraceFormat
from noisybench.data.traces.references import Example, find_references
from noisybench.data.traces.rows import Row, read_folder, read_rows
from noisybench.data.traces.schemas import (
    Exchange,
    Schema,
    exchange_notes,
    find_schema,
    named_fields,
    response_text,
)
from noisybench.errors import UserError, show
from noisybench.tasks.datasets._trace_checks import Trace, check_size, check_splits, check_traces
from noisybench.tasks.datasets._traces import encode_split, max_length
from noisybench.utils.file_listing import Source
from noisybench.utils.places import expand_user

LENGTH_FACTOR = 1.3
"""Columns of a response as a multiple of the longest one, because noise can lengthen a trace."""

DIGITS = "0123456789"


class TraceFile(DatasetSource):
    """Traces from a file of JSON lines, a JSON array or parquet, in one of the usual schemas of fine-tuning.

    A folder is read by its files, such as `train.jsonl` and `test.jsonl`. Rows have `messages` (role and content),
    `conversations` (ShareGPT), `instruction`, `input` and `output` (Alpaca), or two fields such as `prompt` and `response`,
    each a text or a list of messages; `dataset.prompt_field` and `dataset.response_field` name others. Of several messages,
    the last one of the assistant is the response. Responses have no end mark. The optional fields `split` and `observed`
    give the split (train, validation or test), and the noisy response that noise=real_world trains on; all other fields
    are kept in label sets and their exports. With a `program`, responses are its traces (``7+5+0=12;4+0+1=05#052``);
    otherwise, they are texts whose annotated calculations are checked. Rows without a split are split at random. No
    prompt may occur in two splits.
    """

    license = License("not applicable", access="own files")
    tasks = ("chain_of_thought",)

    path: Path | None = parameter(
        None, help="Path of the .jsonl, .json or .parquet file, or of a folder with files of the splits"
    )
    row_schema: (
        Literal[
            "messages",
            "sharegpt",
            "alpaca",
            "prompt_response",
            "prompt_completion",
            "question_answer",
            "problem_solution",
        ]
        | None
    ) = parameter(None, help="Fields of prompt and response (default: found from the rows)")
    prompt_field: str | None = parameter(
        None, help="Field of the prompt, for fields that no schema has", access="value"
    )
    response_field: str | None = parameter(None, help="Field of the response, beside prompt_field", access="value")
    answer_format: Literal["hashes", "boxed", "answer_is", "choice", "response"] | None = parameter(
        None,
        help="Place of the answer in responses: after `#### `, in a LaTeX box, after `The answer is`, as the letter of a choice, "
        "or the whole response (default: found from the responses)",
    )
    answer_field: str | None = parameter(
        None, help="Field of the correct answer (default: the answer of the clean response)", access="value"
    )
    program: str | None = parameter(
        None,
        help="Program of the traces: a name, or file.py:Class (default: text with annotated calculations)",
        access="program",
    )

    def data_files(self) -> Mapping[str, Source]:
        """Return the file of traces, and that of a custom program."""
        return {**super().data_files(), **program_files(self.program or "")}

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read all rows; responses of a program are checked by re-execution.

        Raises:
            UserError: a row is invalid; the message gives its number and the reason.
        """
        if self.path is None:
            raise UserError("dataset.path: give the file of traces, e.g. dataset.path=traces.jsonl")
        path = expand_user(self.path)
        rows, unread = read_folder(path) if path.is_dir() else (read_rows(path), ())
        return self.read_traces(rows, str(path), unread)

    def read_traces(
        self,
        rows: Sequence[Row],
        location: str,
        notes: tuple[ReadingNote, ...] = (),
        is_verified: bool = True,
    ) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read rows that are in memory, as `read` reads those of the file.

        Args:
            rows: one example each.
            location: name of all rows for messages.
            notes: notes about rows that are not there.
            is_verified: responses of a program with an incorrect step are refused.

        Raises:
            UserError: a row is invalid; the message gives its location and the reason.
        """
        if not rows:
            raise UserError(f"{location}: has no traces; add some")
        schema = self._schema(rows)
        exchanges = [schema.read(row) for row in rows]
        traces = [_trace(row, exchange, self.answer_field) for row, exchange in zip(rows, exchanges, strict=True)]
        check_splits(location, traces)
        check_size(traces)
        exchanges = [replace(each, fields=trace.fields) for each, trace in zip(exchanges, traces, strict=True)]
        notes += exchange_notes(exchanges, [row.name for row in rows])
        trace_format, answer_notes = self._build_format(traces, is_verified)
        self._trace_format = trace_format
        return self._encode(location, traces, notes + answer_notes)

    def _schema(self, rows: Sequence[Row]) -> Schema:
        if (self.prompt_field is None) != (self.response_field is None):
            raise UserError("dataset: prompt_field and response_field belong together; give both")
        if self.prompt_field is None or self.response_field is None:
            return find_schema(rows, self.row_schema)
        if self.row_schema is not None:
            raise UserError("dataset.row_schema: give either a schema, or prompt_field and response_field")
        return named_fields(rows, self.prompt_field, self.response_field)

    def _encode(
        self, location: str, traces: list[Trace], notes: tuple[ReadingNote, ...]
    ) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        end = self._trace_format.end
        responses = [response + end for trace in traces for response in trace.responses]
        lengths = max_length([trace.prompt for trace in traces]), int(LENGTH_FACTOR * max_length(responses)) + 1

        def encode(*splits: Role | None) -> RawSplit:
            selected = [trace for split in splits for trace in traces if trace.split == split]
            if not selected:
                raise UserError(
                    f"{location}: no row of the split {splits[0]}; add some, or remove the field `split` so that splits are drawn"
                )
            is_validation = np.array([trace.split == "validation" for trace in selected])
            encoded = encode_split(
                self._trace_format,
                [trace.prompt for trace in selected],
                [trace.response + end for trace in selected],
                lengths,
                # Without a mask, the validation rows are drawn by `validation_fraction`.
                is_validation if is_validation.any() else None,
                # Rows without `observed` are observed as they are: their only response is the clean one.
                [trace.responses[-1] + end for trace in selected]
                if any(trace.observed is not None for trace in selected)
                else None,
            )
            return replace(encoded, fields=tuple(trace.fields for trace in selected), groups=_groups(selected))

        characters = tuple(self._trace_format.vocabulary)
        if traces[0].split is None:
            return replace(encode(None), notes=notes), None, characters
        # Noisy responses of test problems are dropped, because tests are scored by the clean ones.
        test = replace(encode("test"), noisy_targets=None)
        return replace(encode("train", "validation"), notes=notes), test, characters

    def _build_format(self, traces: Sequence[Trace], is_verified: bool) -> tuple[TraceFormat, tuple[ReadingNote, ...]]:
        if self.program is None:
            vocabulary = _vocabulary(traces)
            examples = [Example(each.prompt, each.response, each.location, each.name, each.gold) for each in traces]
            found = find_references(examples, self.answer_format, self.answer_field)
            return CalculationTraceFormat(vocabulary, found.answers, found.gold_answers), found.notes
        if self.answer_format or self.answer_field:
            raise UserError("dataset: a program computes the answers; remove answer_format and answer_field")
        # The prompts decide the width and the number of operands; any values will do here.
        trace_format = ProgramTraceFormat(get_program_class(self.program)(2, 2))
        check_traces(trace_format, traces, is_verified)
        return trace_format, ()

    def trace_format(self) -> TraceFormat:
        """Return the format of the program's traces, or of annotated calculations."""
        return self._trace_format

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write a file of solved word problems."""
        lines = [
            {
                "prompt": f"Ann has {number} clips and buys 3.",
                "response": f"{number}+3 = <<{number}+3={number + 3}>>{number + 3} clips.\n#### {number + 3}",
            }
            for number in range(40)
        ]
        (folder / "traces.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
        return {"path": str(folder / "traces.jsonl")}


def _trace(row: Row, exchange: Exchange, answer_field: str | None) -> Trace:
    """Return a trace with its split and its observed response.

    Raises:
        UserError: the row has another value in one of these fields.
    """
    fields = dict(exchange.fields)
    split, observed = fields.pop("split", None), fields.pop("observed", None)
    role = split_role(split) if isinstance(split, str) else None
    if split is not None and role is None:
        raise UserError(f"{row.location} has the split {show(split)}; allowed are {', '.join(ROLES)}, or no split")
    text = None if observed is None else response_text(observed, row, "observed")
    gold = None if answer_field is None else row.fields.get(answer_field)
    return Trace(row.location, row.name, role, exchange.prompt, exchange.response, text, fields, gold)


def _groups(traces: Sequence[Trace]) -> NDArray[np.str_] | None:
    """Return the prompt of each trace, shortened, if several traces have the same one."""
    keys = [trace.key for trace in traces]
    if len(set(keys)) == len(keys):
        return None
    # The digest separates prompts with the same beginning.
    return np.array([f"{key[:40]} ({hashlib.sha256(key.encode()).hexdigest()[:12]})" for key in keys])


def _vocabulary(traces: Sequence[Trace]) -> str:
    """Return the characters of all texts.

    Raises:
        UserError: a text has a character that stands for something else in tokens.
    """
    reserved = {CalculationTraceFormat.end: "marks the end of a response", PLACEHOLDER: "Unicode reserves"}
    # All digits, because noise can write any of them.
    characters = set(DIGITS)
    for trace in traces:
        of_trace = set().union(*trace.texts)
        if found := of_trace & reserved.keys():
            character = min(found)
            raise UserError(f"{trace.location} has the character {character!r}, which {reserved[character]}; remove it")
        characters |= of_trace
    return make_vocabulary(characters, CalculationTraceFormat.end)
