"""Traces of a file as they are read, and checks before they become tokens."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from noisybench.data.splits.names import Role
from noisybench.data.traces.program_format import CHARACTERS, ProgramTraceFormat
from noisybench.data.traces.recorder import TraceRecorder
from noisybench.errors import UserError

MAX_CELLS = 2**30
"""Largest number of characters of all traces when each is as long as the longest one, as in memory."""


@dataclass(frozen=True)
class Trace:
    """One trace of the file."""

    location: str
    name: str
    split: Role | None
    prompt: str
    response: str
    observed: str | None
    fields: Mapping[str, Any]
    gold: Any

    @property
    def texts(self) -> list[str]:
        """Prompt and responses."""
        return [self.prompt, *self.responses]

    @property
    def responses(self) -> list[str]:
        """Clean response, and the observed one if given."""
        return [self.response] if self.observed is None else [self.response, self.observed]

    @property
    def key(self) -> str:
        """Prompt without differences in spacing and in the composition of characters."""
        return " ".join(unicodedata.normalize("NFC", self.prompt).split())


def check_splits(location: str, traces: Sequence[Trace]) -> None:
    """Refuse splits of some rows only, and prompts that occur in two splits, whatever their spacing.

    Raises:
        UserError: the splits are not distinct.
    """
    first_of: dict[str, Trace] = {}
    for trace in traces:
        first = first_of.setdefault(trace.key, trace)
        if trace.split != first.split and None not in (trace.split, first.split):
            raise UserError(
                f"{trace.location}: its prompt occurs in the splits {first.split} ({first.name}) and {trace.split}; a "
                "prompt may occur in one split only"
            )
    if len({trace.split is None for trace in traces}) > 1:
        raise UserError(f"{location}: only some rows have a split; give one to all rows or to none")


def check_size(traces: Sequence[Trace]) -> None:
    """Refuse a single long trace that would make all others too large for the memory.

    Raises:
        UserError: the traces are too large together; the message names the longest one.
    """
    longest = max(traces, key=lambda trace: sum(map(len, trace.texts)))
    length = sum(map(len, longest.texts))
    if length * len(traces) > MAX_CELLS:
        raise UserError(
            f"{longest.location} has {length:,} characters, and {len(traces):,} traces of this length do not fit in "
            f"memory; remove or shorten the traces of more than {MAX_CELLS // len(traces):,} characters"
        )


def check_traces(trace_format: ProgramTraceFormat, traces: Sequence[Trace], is_verified: bool) -> None:
    """Refuse rows that are not traces of the program.

    Args:
        trace_format: format of the program.
        traces: all rows.
        is_verified: clean responses with an incorrect step are refused as well.

    Raises:
        UserError: a prompt does not belong to the program, or a clean response has an incorrect step.
    """
    for trace in traces:
        unknown = sorted(set(trace.prompt + trace.response) - set(CHARACTERS))
        if unknown:
            raise UserError(f"{trace.location} has the character {unknown[0]!r}, which traces of programs cannot have")
        try:
            program, operands = trace_format.program.parse_prompt(trace.prompt)
            expected = program.prompt(operands)
        except (IndexError, ValueError):
            expected = ""
        if expected != trace.prompt:
            example = trace_format.program.prompt([1] * trace_format.program.count)
            raise UserError(
                f"{trace.location}: {trace.prompt!r} is not a prompt of the program, whose prompts look like {example!r}"
            )
        check = trace_format.check(trace.prompt, trace.response + trace_format.end)
        if is_verified and not check.is_valid:
            correct = trace_format.rerun(trace.prompt, "", TraceRecorder()).removesuffix(trace_format.end)
            raise UserError(
                f"{trace.location}: step {check.first_error} of {trace.response!r} does not follow from the steps before "
                f"it; the program writes {correct!r}. Put noisy responses into `observed`"
            )
