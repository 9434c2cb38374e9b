"""Traces of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.source import DatasetSource
from noisybench.data.traces.builtin_programs import get_program_class
from noisybench.data.traces.formats import TraceFormat
from noisybench.data.traces.gsm8k_calculations import CalculationTraceFormat
from noisybench.data.traces.program_format import CHARACTERS, ProgramTraceFormat
from noisybench.errors import UserError
from noisybench.tasks.datasets._traces import examples_of, json_lines, longest

SPLITS = ("train", "validation", "test")
SPARE = 1.3


class TraceFile(DatasetSource):
    """Traces from a file of JSON lines, as `noisybench labels make` writes them beside a label set of traces.

    Every line has `prompt` and `response`, without a mark at its end; perhaps `split` (train, validation, test), and
    `observed`, the response as it came, which noise=real_world trains on. With a `program`, responses are its traces
    (``7+5+0=12;4+0+1=05#052``); without one, solutions with annotated calculations and a last line ``#### 72``. Lines without a
    split are split here. No prompt may stand in two splits.
    """

    tasks = ("chain_of_thought",)

    path: Path | None = parameter(None, help="the .jsonl file")
    program: str | None = parameter(
        None, help="whose traces these are: a name, or file.py:Class; none for annotated text"
    )

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read all lines, and execute each response again.

        Raises:
            UserError: a line does not parse; says which, and why.
        """
        if self.path is None:
            raise UserError("dataset.path: give the file of traces, e.g. dataset.path=traces.jsonl")
        path = self.path.expanduser()
        parts: dict[str | None, list[tuple[str, str, str | None]]] = {}
        where: dict[str, str | None] = {}
        for number, row in json_lines(path, ("prompt", "response")):
            split, observed, place = row.get("split"), row.get("observed"), f"{path}: line {number}"
            if split is not None and split not in SPLITS:
                raise UserError(f"{place} has the split {split!r}; allowed are {', '.join(SPLITS)}, or none")
            if observed is not None and not isinstance(observed, str):
                raise UserError(f"{place}: `observed` must be a text")
            if where.setdefault(row["prompt"], split) != split:
                raise UserError(
                    f"{place}: its prompt stands in the splits {where[row['prompt']]} and {split}; it may be in one alone"
                )
            parts.setdefault(split, []).append((row["prompt"], row["response"], observed))
        if not parts:
            raise UserError(f"{path}: there is no trace in it")
        if None in parts and len(parts) > 1:
            raise UserError(f"{path}: some lines have a split and some have none; give it to all or to none")
        return self._examples(path, parts)

    def _examples(
        self, path: Path, parts: dict[str | None, list[tuple[str, str, str | None]]]
    ) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        rows = [row for part in parts.values() for row in part]
        self._form = self._format_of(rows)
        end = self._form.end
        texts = [text + end for _, *both in rows for text in both if text is not None]
        columns = longest([prompt for prompt, _, _ in rows]), int(SPARE * longest(texts)) + 1

        def examples(*names: str | None) -> RawSplit:
            chosen = [row for name in names for row in parts.get(name, ())]
            if not chosen:
                raise UserError(f"{path}: there is no line of the split {names[0]}")
            held_out = np.array([name == "validation" for name in names for _ in parts.get(name, ())])
            given = [(response if observed is None else observed) + end for _, response, observed in chosen]
            return examples_of(
                self._form,
                [prompt for prompt, _, _ in chosen],
                [response + end for _, response, _ in chosen],
                columns,
                held_out if "validation" in names and "validation" in parts else None,
                given if any(observed is not None for *_, observed in chosen) else None,
            )

        names = tuple(self._form.vocabulary)
        if None in parts:
            return examples(None), None, names
        test = examples("test")
        return examples("train", "validation"), RawSplit(test.inputs, test.targets), names

    def _format_of(self, rows: list[tuple[str, str, str | None]]) -> TraceFormat:
        if self.program is None:
            characters = sorted({each for row in rows for text in row if text is not None for each in text})
            return CalculationTraceFormat("".join(characters) + CalculationTraceFormat.end)
        return _checked(ProgramTraceFormat(get_program_class(self.program)(2, 2)), rows, str(self.path))

    def trace_format(self) -> TraceFormat:
        """That of the program, or annotated text."""
        return self._form

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Solved word problems."""
        lines = [
            {
                "prompt": f"Ann has {each} clips and buys 3.",
                "response": f"{each}+3 = <<{each}+3={each + 3}>>{each + 3} clips.\n#### {each + 3}",
            }
            for each in range(40)
        ]
        (folder / "traces.jsonl").write_text("\n".join(json.dumps(each) for each in lines))
        return {"path": str(folder / "traces.jsonl")}


def _checked(form: ProgramTraceFormat, rows: list[tuple[str, str, str | None]], path: str) -> ProgramTraceFormat:
    """The format, if the rows are of it.

    Raises:
        UserError: a prompt is not one of the program's; a known response does not replay.
    """
    for number, (prompt, response, _) in enumerate(rows, 1):
        foreign = sorted(set(prompt + response) - set(CHARACTERS))
        if foreign:
            raise UserError(f"{path}: trace {number} has the character {foreign[0]!r}, which traces of programs lack")
        try:
            program, operands = form.program.parse_prompt(prompt)
            wanted = program.prompt(operands)
        except (IndexError, ValueError):
            wanted = ""
        if wanted != prompt:
            raise UserError(
                f"{path}: trace {number}: the prompt {prompt!r} is none of the program's, which looks like {_example(form)!r}"
            )
        judged = form.check(prompt, response + form.end)
        if not judged.is_valid:
            raise UserError(
                f"{path}: trace {number}: step {judged.first_error} of {response!r} does not follow; the program writes "
                f"{form.rerun(prompt, '', _machine()).removesuffix(form.end)!r}. What came wrong belongs into `observed`"
            )
    return form


def _example(form: ProgramTraceFormat) -> str:
    program = form.program
    return program.prompt([1] * program.count)


def _machine() -> Any:
    from noisybench.data.traces.recorder import TraceRecorder

    return TraceRecorder()
