"""Execution traces of programs on integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.dataset import DatasetSource, Examples
from noisybench.errors import UserError
from noisybench.parameters import parameter
from noisybench.seeds import Stream
from noisybench.traces import NUMBER, VOCABULARY, Program, encode, program_of

SPARE = 2.2
"""Room of a response, as a multiple of the longest clean one, for traces that noise makes longer."""


class TracedIntegers(DatasetSource):
    """Problems on integers with the execution trace as chain of thought (after Havrilla and Iyer 2024): drawn, seeded, exact.

    `add` is column addition of two numbers of `width` digits; `max`, `sum` and `mod` (sum modulo ten) go through `count` of them.
    A target is the response: a line for each step, the answer, the end. Training, validation and test problems have
    no prompt in common. Texts are single tokens per character.
    """

    tasks = ("chain_of_thought",)

    program: Literal["add", "max", "sum", "mod"] = parameter("add", help="what is computed", shown=True)
    width: int = parameter(2, ge=1, le=12, help="digits of each number", shown=True)
    count: int = parameter(6, ge=2, le=40, help="numbers of a list")
    train_problems: int = parameter(3000, ge=1, help="number of training problems")
    validation_problems: int = parameter(100, ge=0, help="number of further problems for validation")
    test_problems: int = parameter(300, ge=1, help="number of test problems")
    problem_seed: int = parameter(0, ge=0, help="of the problems; not changed by the run's seed")

    def read(self) -> tuple[Examples, Examples | None, tuple[str, ...]]:
        """Draw the problems and run the program on each.

        Raises:
            UserError: there are not so many different problems.
        """
        program = program_of(self.program, self.width, self.count)
        sizes = self.train_problems, self.validation_problems, self.test_problems
        operands = self._operands(program, sum(sizes))
        prompts = [[NUMBER[each] for each in program.prompt(row)] for row in operands.tolist()]
        responses = [program.trace(row) for row in operands.tolist()]
        length = int(SPARE * max(len(each) for each in responses)) + 1
        inputs = np.array(prompts, dtype=np.uint8)[:, None, None, :]
        targets = encode(responses, length)
        first = sum(sizes[:2])
        held_out = np.arange(first) >= sizes[0]
        return (
            Examples(inputs[:first], targets[:first], held_out=held_out),
            Examples(inputs[first:], targets[first:]),
            VOCABULARY,
        )

    def _operands(self, program: Program, wanted: int) -> NDArray[np.int64]:
        """(wanted, count) different problems, in random order."""
        stream, whole = Stream("traced integers", self.program, self.problem_seed), 10 ** (self.width * program.count)
        if wanted > whole:
            raise UserError(
                f"dataset: {wanted} problems were asked for, but there are {whole} different ones; ask for fewer, or more width"
            )
        if whole <= 2**20:
            chosen = stream.permutation(whole)[:wanted]
            return np.stack([chosen // 10 ** (self.width * each) % 10**self.width for each in range(program.count)], 1)
        found = np.zeros((0, program.count), dtype=np.int64)
        while len(found) < wanted:
            more = (stream.uniform(wanted, program.count) * 10**self.width).astype(np.int64)
            found = np.concatenate([found, more])
            found = found[np.sort(np.unique(found, axis=0, return_index=True)[1])]
        return found[:wanted]

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Nothing to write: problems are drawn."""
        return {"train_problems": 40, "validation_problems": 10, "test_problems": 12}
