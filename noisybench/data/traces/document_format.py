"""Text format of documents: several questions to one program with their traces, as in few-shot prompts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from noisybench.data.traces.formats import TraceFormat, make_vocabulary
from noisybench.data.traces.program_format import CHARACTERS, ProgramTraceFormat
from noisybench.data.traces.programs import Program
from noisybench.data.traces.recorder import TraceRecorder

QUESTION, ANSWER, SEPARATOR = "Q: ", "\nA: ", "\n\n"
"""Marks before a question and before its trace, and between two traces."""


def few_shot_text(problems: Iterable[tuple[str, str]]) -> str:
    """Return questions with their traces, each followed by a separator.

    Args:
        problems: questions and traces without their end.

    Example:
        >>> few_shot_text([("1+2:", "1+2+0=03#03")])
        'Q: 1+2:\\nA: 1+2+0=03#03\\n\\n'
    """
    return "".join(f"{QUESTION}{question}{ANSWER}{trace}{SEPARATOR}" for question, trace in problems)


class DocumentTraceFormat(TraceFormat):
    """Documents of traces: the prompt ends with an open question, the response has its trace and may ask further questions.

    The steps of a response are its traces, of which the last one has its answer as a step of its own.

    Args:
        programs: programs by name, which must differ in the text of their prompts without digits.

    Example:
        >>> from noisybench.data.traces.builtin_programs import Add, Max
        >>> trace_format = DocumentTraceFormat({"add": Add(width=1, count=2), "max": Max(width=1, count=3)})
        >>> response = "4;4;7#7\\n\\nQ: max3,5,9:\\nA: 3;5;9#9$"
        >>> trace_format.rerun("Q: max4,2,7:\\nA: ", response, TraceRecorder()) == response
        True
        >>> trace_format.check("Q: max4,2,7:\\nA: ", response.replace("4;4;7", "4;5;7")).first_error
        1
    """

    separator = SEPARATOR

    def __init__(self, programs: Mapping[str, Program]) -> None:
        super().__init__(make_vocabulary(CHARACTERS + QUESTION + ANSWER + SEPARATOR, self.end))
        self._formats = {
            _without_digits(program.prompt([0] * program.count)): ProgramTraceFormat(program)
            for program in programs.values()
        }

    def format_document(self, problems: Iterable[tuple[str, str]]) -> str:
        """Return the text of questions and their traces, with the end."""
        text = few_shot_text((question, trace.removesuffix(self.end)) for question, trace in problems)
        return text.removesuffix(SEPARATOR) + self.end

    def check_steps(self, prompt: str, response: str) -> list[bool]:
        """Execute every question again: a trace is correct if all of its lines and its answer are."""
        lines, tail = self.split_response(response)
        if not lines:
            return [False]
        *complete, last = _problems(prompt, lines)
        checks = [self._is_valid(question, trace + self.end) for question, trace in complete]
        question, trace = last
        trace_format = self._format_of(question)
        if trace_format is None:
            return [*checks, False, False]
        *line_checks, answer_check = trace_format.check_steps(question, trace + tail)
        return [*checks, all(line_checks), answer_check]

    def _is_valid(self, question: str, trace: str) -> bool:
        trace_format = self._format_of(question)
        return trace_format is not None and all(trace_format.check_steps(question, trace))

    def _format_of(self, question: str) -> ProgramTraceFormat | None:
        """Return the format of the program of a question; None if a model has written it and no program has such ones."""
        return self._formats.get(_without_digits(question)) if re.search(r"\d", question) else None

    def check_answer(self, prompt: str, answer: str | None) -> None:
        """Return None: the prompt does not hold the last question, whose answer is that of the response."""

    def rerun(self, prompt: str, response: str, recorder: TraceRecorder) -> str:
        """Return the document in which every trace is that of a run with the given recorder."""
        lines, _ = self.split_response(response)
        traces = []
        for question, _ in _problems(prompt, lines):
            trace_format = self._format_of(question)
            assert trace_format is not None
            program, operands = trace_format.program.parse_prompt(question)
            # The recorder collects the lines of all runs, so that its errors continue from one to the next.
            num_lines = len(recorder.lines)
            written, answer = program.trace(operands, recorder)
            traces.append((question, trace_format.format_response(written[num_lines:], answer)))
        return self._without_open_question(prompt, traces)

    def recompute_answer(self, prompt: str, response: str) -> str:
        """Return the response with the last answer that follows from the lines before it."""
        lines, tail = self.split_response(response)
        question, trace = _problems(prompt, lines)[-1]
        trace_format = self._format_of(question)
        assert trace_format is not None
        recomputed = trace_format.recompute_answer(question, trace + tail)
        return response.removesuffix(trace + tail) + recomputed

    def _without_open_question(self, prompt: str, problems: list[tuple[str, str]]) -> str:
        """Return the response whose first question is the open one of the prompt."""
        return self.format_document(problems).removeprefix(f"{QUESTION}{_open_question(prompt)}{ANSWER}")


def _open_question(prompt: str) -> str:
    return prompt.rpartition(QUESTION)[2].removesuffix(ANSWER)


def _problems(prompt: str, lines: list[str]) -> list[tuple[str, str]]:
    """Return the questions and the traces of a document; the last trace has no answer."""
    problems = [(_open_question(prompt), lines[0])]
    for line in lines[1:]:
        question, _, trace = line.removeprefix(QUESTION).partition(ANSWER)
        problems.append((question, trace))
    return problems


def _without_digits(prompt: str) -> str:
    """Return a prompt without its numbers, in which programs differ."""
    return re.sub(r"\d+", "", prompt)
