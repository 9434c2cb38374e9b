"""The format of traces as a saved model needs it: texts and tokens, without the programs that re-execute them."""

from __future__ import annotations

from noisybench.data.traces.formats import TraceFormat
from noisybench.data.traces.recorder import TraceRecorder


class DeployedTraceFormat(TraceFormat):
    """Format of prompts and responses that were never seen: nothing is known about their steps and answers.

    Args:
        vocabulary: all characters, including `end`.
        end: character that ends a response.
        separator: text between two lines.
        answer_marks: texts of which the last occurrence precedes the answer.

    Example:
        >>> trace_format = DeployedTraceFormat("0123456789+:#$", "$", ";", ("#",))
        >>> trace_format.decode(trace_format.encode(["1+2:"], 6, left=True)), trace_format.extract_answer("1+2#3$")
        (['1+2:'], '3')
    """

    def __init__(self, vocabulary: str, end: str, separator: str, answer_marks: tuple[str, ...]) -> None:
        self.end, self.separator, self.answer_marks = end, separator, answer_marks
        super().__init__(vocabulary)

    def check_steps(self, prompt: str, response: str) -> list[bool]:
        """Refuse: steps are re-executed by the format of the dataset."""
        raise NotImplementedError("a saved model writes responses; load its dataset to check them")

    def check_answer(self, prompt: str, answer: str | None) -> None:
        """Return None: the correct answer is unknown."""

    def rerun(self, prompt: str, response: str, recorder: TraceRecorder) -> str:
        """Refuse, as `check_steps`."""
        raise NotImplementedError("a saved model writes responses; load its dataset to execute them again")

    def recompute_answer(self, prompt: str, response: str) -> str:
        """Refuse, as `check_steps`."""
        raise NotImplementedError("a saved model writes responses; load its dataset to compute answers")
