"""Execution traces of programs on integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.source import DatasetSource
from noisybench.data.traces.builtin_programs import get_program_class
from noisybench.data.traces.formats import TraceFormat
from noisybench.data.traces.program_format import ProgramTraceFormat
from noisybench.data.traces.programs import Program
from noisybench.data.traces.recorder import NonTerminating, TraceRecorder
from noisybench.errors import UserError
from noisybench.tasks.datasets._traces import examples_of, longest
from noisybench.utils.seeds import Stream

SPARE = 2.2
"""Room of a response, as a multiple of the longest clean one, for traces that noise makes longer."""


class TracedIntegers(DatasetSource):
    """Problems on integers with the execution trace as chain of thought (after Havrilla and Iyer 2024): drawn, seeded, exact.

    Column addition and subtraction (`add`, `sub`), long multiplication (`mul`) and Euclid's algorithm (`gcd`) have two numbers;
    `max`, `sum`, `product`, `mod` (sum modulo ten), `sort`, `median` and `composed` (add, multiply, distance by
    turns) have `count` of them. One's own program is a class with a `run`, given as file.py:Class. A target is the response:
    a line for each step, the answer, the end. Training, validation and test problems have no prompt in common.
    `ood_lengths` adds test sets of numbers with other widths, on which nothing was trained.
    """

    tasks = ("chain_of_thought",)

    program: str = parameter("add", help="what is computed", always_in_label=True)
    width: int = parameter(2, ge=1, le=12, help="digits of each number", always_in_label=True)
    count: int = parameter(6, ge=2, le=40, help="numbers of a list")
    ood_lengths: list[int] | None = parameter(
        None, help="widths of further test sets, for generalisation to other lengths"
    )
    train_problems: int = parameter(3000, ge=1, help="number of training problems")
    validation_problems: int = parameter(100, ge=0, help="number of further problems for validation")
    test_problems: int = parameter(300, ge=1, help="number of test problems, of each width")
    problem_seed: int = parameter(0, ge=0, help="of the problems; not changed by the run's seed")

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Draw the problems and run the program on each.

        Raises:
            UserError: there are not so many different problems; a program of the user's raises or does not end.
        """
        kind = get_program_class(self.program)
        sizes = self.train_problems, self.validation_problems, self.test_problems
        self._form = ProgramTraceFormat(kind(self.width, self.count))
        prompts, responses = self._problems(self._form.program, sum(sizes))
        others = {}
        for width in self.ood_lengths or ():
            if width == self.width or not 1 <= width <= 12:
                raise UserError(
                    f"dataset.ood_lengths: widths must be from 1 to 12 and not {self.width}, but got {self.ood_lengths}"
                )
            others[width] = self._problems(kind(width, self.count), self.test_problems)
        every = [each for pair in others.values() for each in pair[1]]
        columns = (
            longest([*prompts, *(each for pair in others.values() for each in pair[0])]),
            max(int(SPARE * longest(responses)) + 1, longest(every)),
        )
        self._others = {f"width_{width}": examples_of(self._form, *pair, columns) for width, pair in others.items()}
        first = sum(sizes[:2])
        held_out = np.arange(first) >= sizes[0]
        return (
            examples_of(self._form, prompts[:first], responses[:first], columns, held_out),
            examples_of(self._form, prompts[first:], responses[first:], columns),
            tuple(self._form.vocabulary),
        )

    def read_shifted_tests(self) -> dict[str, RawSplit]:
        """Test problems of other widths."""
        return self._others

    def trace_format(self) -> TraceFormat:
        """That of the program."""
        return self._form

    def _problems(self, program: Program, wanted: int) -> tuple[list[str], list[str]]:
        """Prompts and responses of different problems, in random order."""
        prompts, responses = [], []
        for row in self._operands(program, wanted).tolist():
            prompts.append(program.prompt(row))
            try:
                responses.append(self._form.format_response(*program.trace(row, TraceRecorder())))
            except NonTerminating:
                raise UserError(
                    f"dataset.program: `{self.program}` does not seem to end for the operands {row}; a program must end for all "
                    "that it is given"
                ) from None
        return prompts, responses

    def _operands(self, program: Program, wanted: int) -> NDArray[np.int64]:
        """(wanted, count) different problems, in random order."""
        whole, there = 10 ** (program.width * program.count), program.num_unique_problems()
        if wanted > there:
            raise UserError(
                f"dataset: {wanted} problems were asked for, but there are {there} different ones; ask for fewer, or more width"
            )
        # A program of the user's own draws from the stream of its reference, file.py:Class, also where it extends a built-in one.
        name = vars(type(program)).get("stream_name", self.program)
        stream = Stream("traced integers", name, self.problem_seed)
        if whole <= 2**20:
            numbers = stream.permutation(whole)
            if type(program).arrange is Program.arrange:
                numbers = numbers[:wanted]
            places = 10 ** (program.width * np.arange(program.count))
            return _distinct(program, numbers[:, None] // places % 10**program.width)[:wanted]
        found = np.zeros((0, program.count), dtype=np.int64)
        while len(found) < wanted:
            more = (stream.uniform(wanted, program.count) * 10**program.width).astype(np.int64)
            found = _distinct(program, np.concatenate([found, more]))
        return found[:wanted]

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Nothing to write: problems are drawn."""
        return {"train_problems": 40, "validation_problems": 10, "test_problems": 12, "ood_lengths": [1, 3]}


def _distinct(program: Program, operands: NDArray[np.int64]) -> NDArray[np.int64]:
    """As the program arranges them, the first of each that is alike."""
    if type(program).arrange is not Program.arrange:
        operands = np.array([program.arrange(row) for row in operands.tolist()], dtype=np.int64)
    return operands[np.sort(np.unique(operands, axis=0, return_index=True)[1])]
