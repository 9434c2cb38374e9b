"""Execution traces of programs on integers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.source import DatasetSource
from noisybench.data.traces.builtin_programs import get_program_class, program_files
from noisybench.data.traces.formats import TraceFormat
from noisybench.data.traces.program_format import ProgramTraceFormat
from noisybench.data.traces.programs import Program
from noisybench.data.traces.recorder import NonTerminating, TraceRecorder
from noisybench.errors import UserError
from noisybench.tasks.datasets._traces import encode_split, max_length
from noisybench.utils.file_listing import Source
from noisybench.utils.seeds import Stream

MAX_WIDTH = 12
"""Largest number of digits of an operand."""

LENGTH_FACTOR = 2.2
"""Columns of a response as a multiple of the longest clean one, because noise can lengthen a trace."""


class TracedIntegers(DatasetSource):
    """Problems on integers with the execution trace as chain of thought (after Havrilla and Iyer 2024).

    Column addition and subtraction (`add`, `sub`), long multiplication (`mul`) and Euclid's algorithm (`gcd`) have two
    operands. `max`, `sum`, `product`, `mod` (sum modulo ten), `sort`, `median` and `composed` (addition, multiplication and
    distance in turn) have `count` of them. A custom program is a subclass of `Program`, given as file.py:Class. A target is
    the response: a line per step, the answer, the end. Problems are drawn from a seed; training, validation and test
    problems have no prompt in common. `ood_lengths` adds test sets of numbers with other widths, which are never trained on.
    """

    license = License("not applicable", access="generated")
    tasks = ("chain_of_thought",)

    program: str = parameter(
        "add", help="Name of the program, or file.py:Class", always_in_label=True, access="program"
    )
    width: int = parameter(2, ge=1, le=12, help="Number of digits of each operand", always_in_label=True)
    count: int = parameter(6, ge=2, le=40, help="Number of operands of the programs on lists")
    ood_lengths: list[int] | None = parameter(
        None, help="Widths of further test sets, for generalization to other lengths"
    )
    train_problems: int = parameter(3000, ge=1, help="Number of training problems")
    validation_problems: int = parameter(100, ge=0, help="Number of validation problems")
    test_problems: int = parameter(300, ge=1, help="Number of test problems of each width")
    problem_seed: int = parameter(0, ge=0, help="Random seed of the problems (independent of the run's seed)")

    def data_files(self) -> Mapping[str, Source]:
        """Return the file of a custom program."""
        return program_files(self.program)

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Draw the problems and run the program on each.

        Raises:
            UserError: there are too few distinct problems, or a custom program fails or does not terminate.
        """
        program_class = get_program_class(self.program)
        num_problems = self.train_problems, self.validation_problems, self.test_problems
        self._trace_format = ProgramTraceFormat(program_class(self.width, self.count))
        prompts, responses = self._draw_problems(self._trace_format.program, sum(num_problems))
        ood_problems = {}
        for width in self.ood_lengths or ():
            if width == self.width or not 1 <= width <= MAX_WIDTH:
                raise UserError(
                    f"dataset.ood_lengths: widths must be from 1 to {MAX_WIDTH} and differ from {self.width}, but got "
                    f"{self.ood_lengths}"
                )
            ood_problems[width] = self._draw_problems(program_class(width, self.count), self.test_problems)
        ood_prompts = [prompt for problems in ood_problems.values() for prompt in problems[0]]
        ood_responses = [response for problems in ood_problems.values() for response in problems[1]]
        lengths = (
            max_length([*prompts, *ood_prompts]),
            # Problems of other widths serve only for testing, where no noise lengthens a response.
            max(int(LENGTH_FACTOR * max_length(responses)) + 1, max_length(ood_responses)),
        )
        self._ood_tests = {
            f"width_{width}": encode_split(self._trace_format, *problems, lengths)
            for width, problems in ood_problems.items()
        }
        num_known = sum(num_problems[:2])
        validation_mask = np.arange(num_known) >= num_problems[0]
        return (
            encode_split(self._trace_format, prompts[:num_known], responses[:num_known], lengths, validation_mask),
            encode_split(self._trace_format, prompts[num_known:], responses[num_known:], lengths),
            tuple(self._trace_format.vocabulary),
        )

    def read_shifted_tests(self) -> dict[str, RawSplit]:
        """Return the test problems of other widths."""
        return self._ood_tests

    def trace_format(self) -> TraceFormat:
        """Return the format of the program's traces."""
        return self._trace_format

    def _draw_problems(self, program: Program, num_problems: int) -> tuple[list[str], list[str]]:
        """Return the prompts and responses of distinct problems in random order."""
        prompts, responses = [], []
        for operands in self._draw_operands(program, num_problems).tolist():
            prompts.append(program.prompt(operands))
            try:
                responses.append(self._trace_format.format_response(*program.trace(operands, TraceRecorder())))
            except NonTerminating:
                raise UserError(
                    f"dataset.program: `{self.program}` does not seem to terminate for the operands {operands}; a program "
                    "must terminate for all operands"
                ) from None
        return prompts, responses

    def _draw_operands(self, program: Program, num_problems: int) -> NDArray[np.int64]:
        """Return the (num_problems, count) operands of distinct problems in random order."""
        num_tuples, num_unique = 10 ** (program.width * program.count), program.num_unique_problems()
        if num_problems > num_unique:
            raise UserError(
                f"dataset: {num_problems} problems were requested, but there are only {num_unique} distinct ones; request "
                "fewer, or increase dataset.width"
            )
        # A custom program draws from a stream named by its reference, file.py:Class, even if it extends a built-in one.
        name = vars(type(program)).get("stream_name", self.program)
        stream = Stream("traced integers", name, self.problem_seed)
        if num_tuples <= 2**20:
            # Few tuples: permute all of them, each encoded as one number with `count` digits in base 10**width.
            numbers = stream.permutation(num_tuples)
            # All tuples differ, so that without a rearrangement the first ones suffice; with one, several tuples may
            # become the same problem, and later ones must replace them.
            if type(program).arrange is Program.arrange:
                numbers = numbers[:num_problems]
            place_values = 10 ** (program.width * np.arange(program.count))
            return _arrange_and_deduplicate(program, numbers[:, None] // place_values % 10**program.width)[
                :num_problems
            ]
        # Too many tuples to permute. Repetitions among so many are usually rare, so that few rounds of drawing are
        # needed.
        operands: NDArray[np.int64] = np.zeros((0, program.count), dtype=np.int64)
        while len(operands) < num_problems:
            drawn = (stream.uniform(num_problems, program.count) * 10**program.width).astype(np.int64)
            operands = _arrange_and_deduplicate(program, np.concatenate([operands, drawn]))
        return operands[:num_problems]

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Return parameters of a small dataset; nothing is written, since problems are drawn."""
        return {"train_problems": 40, "validation_problems": 10, "test_problems": 12, "ood_lengths": [1, 3]}


def _arrange_and_deduplicate(program: Program, operands: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the operands as the program arranges them, without repetitions, in the order of their first occurrence."""
    if type(program).arrange is not Program.arrange:
        operands = np.array([program.arrange(row) for row in operands.tolist()], dtype=np.int64)
    # `unique` sorts the rows, which would put small numbers into one split; the positions restore the drawn order.
    return operands[np.sort(np.unique(operands, axis=0, return_index=True)[1])]
