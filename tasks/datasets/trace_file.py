"""Traces from a file of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.source import DatasetSource
from noisybench.data.traces.builtin_programs import get_program_class, program_files
from noisybench.data.traces.formats import TraceFormat
from noisybench.data.traces.gsm8k_calculations import CalculationTraceFormat
from noisybench.data.traces.program_format import CHARACTERS, ProgramTraceFormat
from noisybench.data.traces.recorder import TraceRecorder
from noisybench.errors import UserError
from noisybench.tasks.datasets._traces import encode_split, max_length, read_json_lines
from noisybench.utils.file_listing import Source
from noisybench.utils.places import expand_user

SPLITS = ("train", "validation", "test")
LENGTH_FACTOR = 1.3
"""Columns of a response as a multiple of the longest one, because noise can lengthen a trace."""


@dataclass(frozen=True)
class _Row:
    """One line of the file."""

    prompt: str
    response: str
    observed: str | None

    @property
    def texts(self) -> list[str]:
        """Prompt and responses."""
        return [self.prompt, *self.responses]

    @property
    def responses(self) -> list[str]:
        """Clean response, and the observed one if given."""
        return [self.response] if self.observed is None else [self.response, self.observed]


class TraceFile(DatasetSource):
    """Traces from a file of JSON lines, as `noisybench labels create` writes them beside a label set of traces.

    Every line has `prompt` and `response`, without an end mark, and optionally `split` (train, validation or test) and
    `observed`, the noisy response that noise=real_world trains on. With a `program`, responses are its traces
    (``7+5+0=12;4+0+1=05#052``); otherwise, they are solutions with annotated calculations and a last line ``#### 72``.
    Lines without a split are split at random. No prompt may occur in two splits.
    """

    tasks = ("chain_of_thought",)

    path: Path | None = parameter(None, help="Path of the .jsonl file")
    program: str | None = parameter(
        None,
        help="Program of the traces: a name, or file.py:Class (default: text with annotated calculations)",
        access="program",
    )

    def data_files(self) -> Mapping[str, Source]:
        """Return the file of traces, and that of a custom program."""
        return {**super().data_files(), **program_files(self.program or "")}

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read all lines; responses of a program are checked by re-execution.

        Raises:
            UserError: a line is invalid; the message gives its number and the reason.
        """
        if self.path is None:
            raise UserError("dataset.path: give the file of traces, e.g. dataset.path=traces.jsonl")
        path = expand_user(self.path)
        rows_by_split: dict[str | None, list[_Row]] = {}
        split_of_prompt: dict[str, str | None] = {}
        for number, line in read_json_lines(path, ("prompt", "response")):
            split, observed, location = line.get("split"), line.get("observed"), f"{path}: line {number}"
            if split is not None and split not in SPLITS:
                raise UserError(f"{location} has the split {split!r}; allowed are {', '.join(SPLITS)}, or no split")
            if observed is not None and not isinstance(observed, str):
                raise UserError(f"{location}: `observed` must be a string")
            if split_of_prompt.setdefault(line["prompt"], split) != split:
                raise UserError(
                    f"{location}: its prompt occurs in the splits {split_of_prompt[line['prompt']]} and {split}; a prompt may "
                    "occur in one split only"
                )
            rows_by_split.setdefault(split, []).append(_Row(line["prompt"], line["response"], observed))
        if not rows_by_split:
            raise UserError(f"{path}: the file has no traces")
        if None in rows_by_split and len(rows_by_split) > 1:
            raise UserError(f"{path}: only some lines have a split; give one to all lines or to none")
        return self._encode(path, rows_by_split)

    def _encode(
        self, path: Path, rows_by_split: dict[str | None, list[_Row]]
    ) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        rows = [row for split_rows in rows_by_split.values() for row in split_rows]
        self._trace_format = self._build_format(rows)
        end = self._trace_format.end
        responses = [response + end for row in rows for response in row.responses]
        lengths = max_length([row.prompt for row in rows]), int(LENGTH_FACTOR * max_length(responses)) + 1

        def encode(*splits: str | None) -> RawSplit:
            selected = [row for split in splits for row in rows_by_split.get(split, ())]
            if not selected:
                raise UserError(f"{path}: no line of the split {splits[0]}")
            is_validation = np.array([split == "validation" for split in splits for _ in rows_by_split.get(split, ())])
            return encode_split(
                self._trace_format,
                [row.prompt for row in selected],
                [row.response + end for row in selected],
                lengths,
                # Without a mask, the validation rows are drawn by `validation_fraction`.
                is_validation if "validation" in splits and "validation" in rows_by_split else None,
                # Lines without `observed` are observed as they are: their only response is the clean one.
                [row.responses[-1] + end for row in selected]
                if any(row.observed is not None for row in selected)
                else None,
            )

        characters = tuple(self._trace_format.vocabulary)
        if None in rows_by_split:
            return encode(None), None, characters
        test = encode("test")
        # Noisy responses of test problems are dropped, because tests are scored by the clean ones.
        return encode("train", "validation"), RawSplit(test.inputs, test.targets), characters

    def _build_format(self, rows: list[_Row]) -> TraceFormat:
        if self.program is None:
            # Sorted, because tokens are numbered by position and the order of a set of strings differs between
            # processes.
            characters = sorted({character for row in rows for text in row.texts for character in text})
            return CalculationTraceFormat("".join(characters) + CalculationTraceFormat.end)
        # The prompts decide the width and the number of operands; any values will do here.
        trace_format = ProgramTraceFormat(get_program_class(self.program)(2, 2))
        _check_traces(trace_format, rows, str(self.path))
        return trace_format

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


def _check_traces(trace_format: ProgramTraceFormat, rows: list[_Row], path: str) -> None:
    """Refuse rows that are not traces of the program.

    Raises:
        UserError: a prompt does not belong to the program, or a clean response has an incorrect step.
    """
    for number, row in enumerate(rows, 1):
        unknown = sorted(set(row.prompt + row.response) - set(CHARACTERS))
        if unknown:
            raise UserError(
                f"{path}: trace {number} has the character {unknown[0]!r}, which traces of programs cannot have"
            )
        try:
            program, operands = trace_format.program.parse_prompt(row.prompt)
            expected = program.prompt(operands)
        except (IndexError, ValueError):
            expected = ""
        if expected != row.prompt:
            example = trace_format.program.prompt([1] * trace_format.program.count)
            raise UserError(
                f"{path}: trace {number}: {row.prompt!r} is not a prompt of the program, whose prompts look like {example!r}"
            )
        check = trace_format.check(row.prompt, row.response + trace_format.end)
        if not check.is_valid:
            correct = trace_format.rerun(row.prompt, "", TraceRecorder()).removesuffix(trace_format.end)
            raise UserError(
                f"{path}: trace {number}: step {check.first_error} of {row.response!r} does not follow from the steps before "
                f"it; the program writes {correct!r}. Put noisy responses into `observed`"
            )
