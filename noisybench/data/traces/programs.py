"""Contract of programs on lists of integers, and import of custom programs from files."""

from __future__ import annotations

import abc
import contextlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

from noisybench.data.traces.recorder import NonTerminating, TraceRecorder
from noisybench.errors import UserError

MAX_EXECUTED_LINES = 200_000
"""Number of lines of Python that a custom program may execute in one run."""


class Program(abc.ABC):
    """Contract of a program: its computation and the text of its prompts.

    `run` passes every integer that noise may change through ``recorder.integer`` and every step through ``recorder.emit``,
    and continues with the returned integers. Noise can then change a run, and a written trace can be replayed.

    Args:
        width: number of digits of each operand in the prompt.
        count: number of operands, for programs without a fixed one.

    Attributes:
        name: first word of the prompts; empty if the separator identifies the program.
        separator: text between two operands in the prompt.
        num_operands: number of operands, or None if the dataset's `count` decides it.

    Example:
        >>> class Double(Program):
        ...     name, num_operands = "double", 1
        ...
        ...     def run(self, recorder, operands):
        ...         value, result = recorder.emit("2*{}={}", operands[0], recorder.integer(2 * operands[0]))
        ...         return str(result)
        >>> program = Double(width=2, count=1)
        >>> program.prompt([21])
        'double21:'
        >>> program.trace([21], TraceRecorder())
        (['2*21=42'], '42')
    """

    name: ClassVar[str] = ""
    separator: ClassVar[str] = ","
    num_operands: ClassVar[int | None] = None
    stream_name: ClassVar[str]
    """Name of a built-in program in random streams. Never change it: it decides every drawn number."""
    is_custom: ClassVar[bool] = True
    """Whether users wrote the program; its errors are then reported, and its executed lines limited."""

    def __init__(self, width: int, count: int) -> None:
        self.width, self.count = width, self.num_operands or count

    @abc.abstractmethod
    def run(self, recorder: TraceRecorder, operands: Sequence[int]) -> str:
        """Run the program, emit its steps to the recorder, and return the text of the answer."""

    def arrange(self, operands: Sequence[int]) -> list[int]:
        """Return drawn operands in the order of the prompt."""
        return list(operands)

    def num_unique_problems(self) -> int:
        """Return the number of distinct problems, after `arrange`."""
        return int(10 ** (self.width * self.count))

    def prompt(self, operands: Sequence[int]) -> str:
        """Return the prompt, which ends with a colon; operands have leading zeros up to the program's width."""
        return f"{self.name}{self.separator.join(f'{operand:0{self.width}d}' for operand in operands)}:"

    def parse_prompt(self, prompt: str) -> tuple[Program, list[int]]:
        """Return the program for the width and number of operands of a prompt, and the operands."""
        operands = re.findall(r"\d+", prompt)
        size = len(operands[0]), len(operands)
        program = self if size == (self.width, self.count) else type(self)(*size)
        return program, [int(digits) for digits in operands]

    def trace(self, operands: Sequence[int], recorder: TraceRecorder) -> tuple[list[str], str]:
        """Run the program and return the lines of its trace and its answer.

        Raises:
            NonTerminating: the run exceeds a limit.
            UserError: a custom program raises an exception, or its answer is not a string.
        """
        # Built-in programs always end within the limits of the recorder, so they avoid the slow trace function.
        if not self.is_custom:
            answer = self.run(recorder, operands)
            return recorder.lines, answer
        try:
            with _limited():
                answer = self.run(recorder, operands)
        # Not an error of the program: noise can make any loop endless, and the caller then cuts the trace.
        except NonTerminating:
            raise
        except Exception as error:
            raise UserError(
                f"dataset.program: {type(self).__name__} raises {type(error).__name__} ({error}) for the operands "
                f"{list(operands)}; it must run for all operands and for incorrect intermediate values"
            ) from None
        if not isinstance(answer, str):
            raise UserError(
                f"dataset.program: {type(self).__name__}.run must return the answer as a string, but returned {answer!r}"
            )
        return recorder.lines, answer


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Raise `NonTerminating` after too many executed lines of Python.

    A trace function is slower than an alarm signal, but the same run stops at the same line on every machine.
    """
    # Debuggers and coverage tools use the same hook, so their function is restored afterwards.
    num_events, previous = 0, sys.gettrace()

    def count(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        nonlocal num_events
        num_events += 1
        if num_events > MAX_EXECUTED_LINES:
            raise NonTerminating
        # Returning the function itself keeps it active for the lines of this frame.
        return count

    sys.settrace(count)
    try:
        yield
    finally:
        sys.settrace(previous)


def load_custom_program(path: Path, class_name: str) -> type[Program]:
    """Import a program class from a Python file.

    Raises:
        UserError: the file does not exist, cannot be imported, or has no `Program` of this name.
    """
    if not path.is_file():
        raise UserError(f"dataset.program: {path}: file not found")
    specification = importlib.util.spec_from_file_location(f"noisybench_program_{path.stem}", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"dataset.program: {path} cannot be imported ({type(error).__name__}: {error})") from None
    program_class = getattr(module, class_name, None)
    if not (isinstance(program_class, type) and issubclass(program_class, Program)):
        raise UserError(
            f"dataset.program: {path} has no class `{class_name}` that is a subclass of "
            "noisybench.data.traces.programs.Program"
        )
    return program_class
