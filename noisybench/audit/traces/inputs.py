"""Input of an audit of traces: prompts with responses of a file, of records in memory, or of a recipe."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.audit.inputs import resolve_labels
from noisybench.config.overrides import expand
from noisybench.config.resolve import complete
from noisybench.config.spec import RunSpec
from noisybench.config.yaml_files import load_config
from noisybench.data.check.notes import dataset_notes
from noisybench.data.dataset import Dataset
from noisybench.data.label_sets.label_set import LabelSet
from noisybench.data.notes import ReadingNote
from noisybench.data.targets import IGNORED, Tokens
from noisybench.data.traces.formats import TraceFormat
from noisybench.data.traces.rows import Row, read_folder, read_rows
from noisybench.errors import UserError
from noisybench.utils.places import expand_user

TRACE_TASKS = ("chain_of_thought", "prompting")
"""Tasks whose data are traces."""

SPLIT = "split"
"""Field of a record that has no meaning for an audit, which looks at all splits together."""

ANSWER_NOTES = ("unreadable_answers", "several_answers", "differing_answers")
"""Notes of the reader about answers, which are results of an audit."""


@dataclass(frozen=True)
class TraceAuditInput:
    """Traces to audit.

    Attributes:
        title: name of the data in messages and reports.
        spec: dataset, noise and budget; its stack is not used.
        trace_format: characters, steps, answers and re-execution.
        inputs: (N, 1, 1, P) characters of the prompts.
        observed: (N, T) characters of the responses under audit.
        index: (N,) rows in the source.
        names: (N,) names of the rows, such as ``line 3``.
        records: (N,) records as the user wrote them, or with the fields `prompt` and `response`.
        clean: (N, T) characters of the clean responses; None if they are unknown.
        error_spans: (N, T) status of each character, see `TOKEN_STATUS`; None if it is unknown.
        notes: facts about the data that a user should know.
    """

    title: str
    spec: RunSpec
    trace_format: TraceFormat
    inputs: Tokens
    observed: Tokens
    index: NDArray[np.int64]
    names: tuple[str, ...]
    records: tuple[Mapping[str, Any], ...]
    clean: Tokens | None = None
    error_spans: NDArray[np.uint8] | None = None
    notes: tuple[ReadingNote, ...] = ()

    def __len__(self) -> int:
        return len(self.observed)

    @functools.cached_property
    def prompts(self) -> list[str]:
        """Texts of the prompts."""
        return self.trace_format.decode(self.inputs[:, 0, 0])

    @functools.cached_property
    def responses(self) -> list[str]:
        """Texts of the responses with their end marks."""
        return self.trace_format.decode(self.observed)

    @property
    def is_character(self) -> NDArray[np.bool_]:
        """(N, T) False after the end of a response."""
        return np.asarray(self.observed != IGNORED)

    @functools.cached_property
    def prompt_groups(self) -> NDArray[np.int64]:
        """(N,) position of the first trace with the same prompt, whatever its spacing."""
        first: dict[str, int] = {}
        keys = [" ".join(unicodedata.normalize("NFC", prompt).split()) for prompt in self.prompts]
        return np.array([first.setdefault(key, row) for row, key in enumerate(keys)], dtype=np.int64)

    @functools.cached_property
    def is_incorrect(self) -> NDArray[np.bool_] | None:
        """(N,) True for traces that differ from the clean ones; None if these are unknown."""
        return None if self.clean is None else (self.clean != self.observed).any(1)


def load_trace_audit_input(labels: str, overrides: Iterable[str] = ()) -> TraceAuditInput:
    """Load the traces to audit: all of a user's file, or the training split of a recipe.

    Args:
        labels: file of prompts and responses, a folder of such files, or a recipe of the task chain_of_thought, whose noise is
            then audited.
        overrides: overrides of the specification such as ``budget.epochs=30`` or ``dataset.program=add``.

    Raises:
        UserError: every problem of the specification or the data; the message has the line.
    """
    spec, from_user_data = resolve_labels(labels, overrides)
    if not from_user_data:
        dataset = spec.dataset.build().load()
        title = f"{spec.dataset_label} · {spec.noise.display_name(hide=('path',))}"
        return input_of_labels(title, spec, dataset, spec.noise.build().apply(dataset))
    path = expand_user(Path(labels))
    rows, notes = read_folder(path) if path.is_dir() else (read_rows(path), ())
    return _input_of_rows(path.name, str(path), spec, rows, notes)


def in_memory_trace_input(records: Sequence[Mapping[str, Any]], overrides: Iterable[str] = ()) -> TraceAuditInput:
    """Return records in one of the schemas of `trace_file` as the input of an audit.

    Raises:
        UserError: every problem of the overrides or the records; the message has the row.
    """
    rows = [Row(f"data: row {number}", f"row {number}", dict(record)) for number, record in enumerate(records)]
    return _input_of_rows("given traces", "data", _specification("trace_file", "clean", overrides), rows)


def dataset_trace_input(dataset: Dataset, overrides: Iterable[str] = ()) -> TraceAuditInput:
    """Return the training traces of a dataset as the input of an audit; its noisy traces are audited if it has some."""
    spec = _specification(
        "traced_integers", "clean" if dataset.train.noisy_targets is None else "real_world", overrides
    )
    return input_of_labels(dataset.name, spec, dataset, spec.noise.build().apply(dataset))


def input_of_labels(title: str, spec: RunSpec, dataset: Dataset, labels: LabelSet) -> TraceAuditInput:
    """Return the training traces of a dataset with a label set as the input of an audit."""
    train, trace_format = dataset.train, dataset.trace_format
    assert trace_format is not None
    inputs = np.asarray(train.inputs[:])
    texts = [trace_format.decode(tokens) for tokens in (inputs[:, 0, 0], labels.train)]
    records = tuple(
        {"prompt": prompt, "response": response.removesuffix(trace_format.end)}
        | {f"original_{name}" if name in ("prompt", "response") else name: value for name, value in fields.items()}
        for prompt, response, fields in zip(*texts, train.fields or [{}] * len(train), strict=True)
    )
    return TraceAuditInput(
        title,
        spec,
        trace_format,
        inputs,
        labels.train,
        train.index,
        tuple(f"row {row}" for row in train.index.tolist()),
        records,
        train.targets,
        labels.error_spans.get("train"),
        dataset_notes(dataset),
    )


def _input_of_rows(
    title: str, location: str, spec: RunSpec, rows: Sequence[Row], notes: tuple[ReadingNote, ...] = ()
) -> TraceAuditInput:
    source: Any = spec.dataset.build()
    together = [replace(row, fields={k: v for k, v in row.fields.items() if k != SPLIT}) for row in rows]
    raw, _, _ = source.read_traces(together, location, notes, is_verified=False)
    is_noisy = raw.noisy_targets is not None
    return TraceAuditInput(
        title,
        spec,
        source.trace_format(),
        raw.inputs,
        raw.noisy_targets if is_noisy else raw.targets,
        np.arange(len(rows)),
        tuple(row.name for row in rows),
        tuple(row.fields for row in rows),
        raw.targets if is_noisy else None,
        notes=tuple(note for note in raw.notes if note.kind not in ANSWER_NOTES),
    )


def _specification(dataset: str, noise: str, overrides: Iterable[str]) -> RunSpec:
    """Return the specification of an audit of traces in memory."""
    raw = load_config("recipes", "audit_traces") | {"dataset": dataset, "noise": noise}
    specs = [complete(expanded) for expanded in expand(raw, overrides)]
    if len(specs) > 1:
        raise UserError("an audit takes one value per override, not a comma-separated list")
    return specs[0]
