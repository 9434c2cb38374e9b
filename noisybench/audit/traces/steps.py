"""Steps of traces and what their re-execution, their answers and other traces of the same prompt say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisybench.data.traces.formats import TraceCheck, TraceFormat

Span = tuple[int, int]
"""First character of a step and the position after its last one."""


@dataclass(frozen=True)
class TraceSteps:
    """S steps of N traces, in order; the last step of a trace is its answer.

    Attributes:
        trace: (S,) position of the trace of each step.
        number: (S,) number of the step in its trace, from 1.
        start: (S,) position of the first character in the response.
        stop: (S,) position after the last character.
        failed: (S,) 1 where re-execution contradicts the step, 0 where it confirms it, NaN where it has nothing to execute.
        answers: (N,) answers as the format normalizes them; None if there is none.
        answer_is_incorrect: (N,) 1 where the correct answer is known and another one, 0 where it is the same, NaN if unknown.
    """

    trace: NDArray[np.int64]
    number: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    failed: NDArray[np.float64]
    answers: tuple[str | None, ...]
    answer_is_incorrect: NDArray[np.float64]

    @property
    def num_failed(self) -> NDArray[np.int64]:
        """(N,) number of steps of each trace that re-execution contradicts."""
        return np.bincount(self.trace[self.failed == 1], minlength=len(self.answers))

    @property
    def num_executed(self) -> NDArray[np.int64]:
        """(N,) number of steps of each trace that could be re-executed."""
        return np.bincount(self.trace[~np.isnan(self.failed)], minlength=len(self.answers))


def find_steps(trace_format: TraceFormat, prompts: Sequence[str], responses: Sequence[str]) -> TraceSteps:
    """Divide responses into steps, and re-execute them.

    A step is a line, and the last one the answer with its mark. A line is contradicted if one of its annotated calculations
    is; in traces of programs, each line is executed. Empty lines are no steps.

    Example:
        >>> from noisybench.data.traces.gsm8k_calculations import CalculationTraceFormat
        >>> response = "48/2 = <<48/2=25>>25\\nSo many.\\n#### 25\\x03"
        >>> trace_format = CalculationTraceFormat("".join(sorted(set(response))))
        >>> steps = find_steps(trace_format, ["Half of 48?"], [response])
        >>> steps.failed, steps.num_failed
        (array([ 1., nan,  0.]), array([1]))
    """
    rows: list[tuple[int, int, int, int, float]] = []
    answers: list[str | None] = []
    incorrect: list[float] = []
    for trace, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        check = trace_format.check(prompt, response)
        answers.append(check.answer)
        incorrect.append(np.nan if check.answer_is_correct is None else float(not check.answer_is_correct))
        spans = _spans(trace_format, response)
        for number, (span, failed) in enumerate(zip(spans, _failures(spans, check), strict=True), 1):
            rows.append((trace, number, *span, failed))
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    trace, number, start, stop = table[:, :4].astype(np.int64).T
    return TraceSteps(trace, number, start, stop, table[:, 4], tuple(answers), np.array(incorrect))


def _spans(trace_format: TraceFormat, response: str) -> list[Span]:
    """Return the lines of a response that are not empty, and its answer, which may be."""
    *lines, (start, stop) = trace_format.line_spans(*trace_format.split_response(response))
    # A response that is its own answer may have several lines, of which the last one is the answer.
    answer_start = start + max(response[start:stop].rstrip(trace_format.end).rfind(trace_format.separator), 0)
    lines += [
        (start + line.start(), start + line.end()) for line in re.finditer(r"[^\n]+", response[start:answer_start])
    ]
    return [(first, last) for first, last in lines if response[first:last].strip()] + [(answer_start, stop)]


def _failures(spans: Sequence[Span], check: TraceCheck) -> list[float]:
    """Return for each span 1 if it has a contradicted step, 0 if it has confirmed ones only, NaN if it has none."""
    failures = [np.nan] * len(spans)
    starts = np.array([start for start, _ in spans])
    for step in check.steps[:-1]:
        number = max(int(np.searchsorted(starts, step.start, side="right")) - 1, 0)
        failures[number] = max(0.0 if np.isnan(failures[number]) else failures[number], float(not step.is_correct))
    # The answer is the last step, even where its line has a calculation too.
    failed = float(not check.steps[-1].is_correct)
    failures[-1] = failed if np.isnan(failures[-1]) else max(failures[-1], failed)
    return failures
