"""Chain-of-thought traces that people hold in memory: prompts and responses, or records of fine-tuning files."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from noisybench.config.registry import get_entry
from noisybench.data.containers import library_of
from noisybench.data.dataset import Dataset, Split
from noisybench.data.in_memory import NAME
from noisybench.data.traces.rows import Row
from noisybench.data.traces.schemas import has_schema
from noisybench.errors import UserError, show

RECORDS: dict[str, Callable[[Any], list[dict[str, Any]]]] = {
    "pandas": lambda table: list(table.to_dict("records")),
    "polars": lambda table: list(table.to_dicts()),
    "datasets": lambda table: list(table.to_list()),
    "pyarrow": lambda table: list(table.to_pylist()),
}
"""Rows of the tables of libraries as records."""


@dataclass(frozen=True)
class InMemoryTraces:
    """Traces as the harness uses them.

    Attributes:
        dataset: dataset of which the traces are the training split.
        restore: returns other tokens of this shape as texts or records, in the form of the given ones; the response of a
            trace that was cut is empty.

    Example:
        >>> traces = read_traces(["1 + 2", "2 + 2"], ["1+2 = <<1+2=3>>3\\n#### 3", "2+2 = <<2+2=4>>4\\n#### 4"])
        >>> traces.restore(traces.dataset.train.targets)[1]
        '2+2 = <<2+2=4>>4\\n#### 4'
    """

    dataset: Dataset
    restore: Callable[[Any], Any]


def read_traces(prompts: Any, responses: Any = None, program: str | None = None) -> InMemoryTraces:
    """Read traces.

    Args:
        prompts: (N,) prompts, or records in one of the schemas of the dataset `trace_file`.
        responses: (N,) responses; None if the first argument has records.
        program: program of which the responses are traces, such as ``"add"``; by default, annotated calculations.

    Raises:
        UserError: lengths differ, or a trace cannot be read; the message has its row.
    """
    records, restore = _records(prompts, responses)
    rows = [Row(f"X: row {number}", f"row {number}", dict(record)) for number, record in enumerate(records)]
    source = get_entry("datasets", "trace_file").load_class()(**({} if program is None else {"program": program}))
    for row in rows:
        row.fields.pop("split", None)
    raw, _, characters = source.read_traces(rows, "X")
    trace_format = source.trace_format()
    train = Split(raw.inputs, raw.targets, np.arange(len(rows)), raw.noisy_targets, raw.fields)
    empty = Split(raw.inputs[:0], raw.targets[:0], np.arange(0))
    dataset = Dataset(NAME, train, empty, empty, characters, source_size=len(rows), trace_format=trace_format)
    clean = _texts(trace_format, raw.targets)
    return InMemoryTraces(dataset, lambda tokens: restore(clean, _texts(trace_format, tokens)))


def is_records(data: Any) -> bool:
    """Return True for a list of records, of which each is one trace.

    Example:
        >>> is_records([{"prompt": "1+1", "response": "2"}]), is_records(["1+1"])
        (True, False)
    """
    return isinstance(data, list | tuple) and bool(data) and isinstance(data[0], Mapping)


def table_columns(data: Any) -> list[str] | None:
    """Return the names of the columns of a data frame or data set with rows; None for anything else.

    Example:
        >>> table_columns(["1+1"]) is None
        True
    """
    library = library_of(data)
    columns = getattr(data, "column_names" if library in ("datasets", "pyarrow") else "columns", None)
    return list(map(str, columns)) if library in RECORDS and isinstance(columns, Iterable) else None


def trace_records(data: Any) -> Sequence[Mapping[str, Any]] | None:
    """Return data as records of traces: a list of records, or a data frame with the columns of a schema; None for others.

    Example:
        >>> import pandas as pd
        >>> trace_records(pd.DataFrame({"prompt": ["1+1"], "response": ["#### 2"]}))
        [{'prompt': '1+1', 'response': '#### 2'}]
        >>> trace_records([0.5]) is None
        True
    """
    if is_records(data):
        return list(data)
    columns = table_columns(data)
    if columns is None or not has_schema(columns):
        return None
    # A column with gaps has NaN where a record has nothing.
    return [
        {str(name): None if isinstance(value, float) and math.isnan(value) else value for name, value in record.items()}
        for record in RECORDS[library_of(data)](data)
    ]


def _records(prompts: Any, responses: Any) -> tuple[Sequence[Mapping[str, Any]], Callable[[list[str], list[str]], Any]]:
    """Return one record for each trace, and a function that puts other responses into the given form."""
    if responses is None and is_records(prompts):
        return prompts, lambda clean, noisy: type(prompts)(
            _with_response(record, *texts) for record, *texts in zip(prompts, clean, noisy, strict=True)
        )
    from noisybench.data.in_memory_labels import to_plain

    if responses is None or prompts is None:
        raise UserError(
            "X and y: pass the prompts and the responses, or records such as {'prompt': ..., 'response': ...}"
        )
    questions, (answers, restore) = to_plain(prompts, "X")[0], to_plain(responses, "y")
    if len(questions) != len(answers):
        raise UserError(f"X has {len(questions)} prompts, but y has {len(answers)} responses; each prompt needs one")
    for location, texts in (("X", questions), ("y", answers)):
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                raise UserError(f"{location}: row {number} must be a text, but is {show(text)}")
    records = [{"prompt": str(q), "response": str(a)} for q, a in zip(questions, answers, strict=True)]
    return records, lambda clean, noisy: restore(_object_array(noisy))


def _object_array(texts: list[str]) -> Any:
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array


def _texts(trace_format: Any, tokens: Any) -> list[str]:
    return [text.removesuffix(trace_format.end) for text in trace_format.decode(tokens)]


def _with_response(record: Mapping[str, Any], clean: str, noisy: str) -> dict[str, Any]:
    """Return a record in which the last text that is the response is another one."""
    changed = copy.deepcopy(dict(record))
    places = list(_places(changed, clean))
    if not places:
        raise UserError(f"X: the response {show(clean)} is no field of its record; pass the prompts and the responses")
    container, key = places[-1]
    container[key] = noisy
    return changed


def _places(value: Any, text: str) -> Any:
    """Yield each container and key below which a text stands."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        if isinstance(entry, str) and entry.strip() == text.strip():
            yield value, key
        else:
            yield from _places(entry, text)
