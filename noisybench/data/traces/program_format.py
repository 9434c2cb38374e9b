"""Text format of the traces of programs."""

from __future__ import annotations

from collections.abc import Sequence

from noisybench.data.traces.formats import TraceFormat
from noisybench.data.traces.programs import Program
from noisybench.data.traces.recorder import NonTerminating, TraceRecorder, TraceReplayer

CHARACTERS = "0123456789+-*/=%,:;#$abcdefghijklmnopqrstuvwxyz."


class ProgramTraceFormat(TraceFormat):
    """Traces of one program: lines separated by semicolons, ``#`` and the answer, ``$``.

    Args:
        program: program for some width and number of operands; prompts of other sizes are re-executed as well.

    Example:
        >>> from noisybench.data.traces.builtin_programs import Max
        >>> trace_format = ProgramTraceFormat(Max(width=1, count=3))
        >>> trace_format.rerun("max4,2,7:", "", TraceRecorder())
        '4;4;7#7$'
        >>> trace_format.check("max4,2,7:", "4;9;9#9$").first_error
        2
    """

    def __init__(self, program: Program) -> None:
        super().__init__(CHARACTERS)
        self.program = program

    def check_steps(self, prompt: str, response: str) -> list[bool]:
        """Compare each line with that of a run that continues from the written lines before it, then the answer."""
        program, operands = self.program.parse_prompt(prompt)
        lines, tail = self.split_response(response)
        replayer = TraceReplayer(lines)
        try:
            _, expected = program.trace(operands, replayer)
            answer_follows = (
                # An answer that follows from too few or too many lines does not follow from the program.
                replayer.is_complete
                and tail.endswith(self.end)
                and self.answers_match(self.extract_answer(response), expected)
            )
        except NonTerminating:
            answer_follows = False
        # Lines after the end of the run, or after a limit, follow from nothing.
        superfluous = [False] * (len(lines) - len(replayer.line_checks))
        return [*replayer.line_checks, *superfluous, answer_follows]

    def check_answer(self, prompt: str, answer: str | None) -> bool:
        """Return whether an answer is that of a run without noise."""
        return self.answers_match(answer, self.correct_answer(prompt))

    def correct_answer(self, prompt: str) -> str:
        """Return the answer of a run without noise."""
        program, operands = self.program.parse_prompt(prompt)
        return program.trace(operands, TraceRecorder())[1]

    def rerun(self, prompt: str, response: str, recorder: TraceRecorder) -> str:
        """Return the response of a run with the given recorder; the written response is not used."""
        program, operands = self.program.parse_prompt(prompt)
        return self.format_response(*program.trace(operands, recorder))

    def recompute_answer(self, prompt: str, response: str) -> str:
        """Return the response with the answer that follows from its lines; unparsable lines count as correct."""
        program, operands = self.program.parse_prompt(prompt)
        lines, _ = self.split_response(response)
        try:
            # The written lines are kept as they are; only the answer comes from the replayed run.
            return self.format_response(lines, program.trace(operands, TraceReplayer(lines))[1])
        except NonTerminating:
            return response

    def format_response(self, lines: Sequence[str], answer: str) -> str:
        """Return the text of a response from its lines and its answer."""
        return f"{self.separator.join(lines)}{self.answer_marks[0]}{answer}{self.end}"
