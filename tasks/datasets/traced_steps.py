"""Labeled steps of execution traces of programs, some of them with errors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.source import DatasetSource
from noisybench.data.traces.builtin_programs import program_files
from noisybench.data.traces.formats import TraceFormat
from noisybench.data.traces.recorder import NonTerminating, TraceRecorder
from noisybench.data.traces.steps import STEP_CLASSES, LabeledSolution, classes_until, step_split
from noisybench.tasks.datasets.traced_integers import TracedIntegers
from noisybench.utils.file_listing import Source
from noisybench.utils.seeds import Stream

DIGITS_PER_CHARACTER = 6
"""Number of digits that a run may compute per character of the correct trace before it counts as non-terminating."""


class TracedSteps(DatasetSource):
    """Steps of solutions to problems on integers: runs of a program in which a share has errors of computation.

    Every problem of `traced_integers` has several solutions. In a solution with errors each digit of a computed integer
    is replaced with probability `intensity`, and the run continues with it. A step is correct if re-execution confirms it
    and all steps before it. Problems are drawn from a seed; training, validation and test problems have no prompt in
    common.
    """

    license = License("not applicable", access="generated")
    tasks = ("step_verification", "transfer")

    program: str = parameter(
        "add", help="Name of the program, or file.py:Class", always_in_label=True, access="program"
    )
    width: int = parameter(2, ge=1, le=12, help="Number of digits of each operand", always_in_label=True)
    count: int = parameter(6, ge=2, le=40, help="Number of operands of the programs on lists")
    solutions: int = parameter(4, ge=1, le=64, help="Number of solutions of each problem")
    error_fraction: float = parameter(0.6, ge=0, le=1, help="Fraction of the solutions with errors")
    intensity: float = parameter(0.15, ge=0, le=1, help="Probability of a replaced digit in a solution with errors")
    train_problems: int = parameter(770, ge=1, help="Number of training and validation problems")
    test_problems: int = parameter(250, ge=1, help="Number of test problems")
    problem_seed: int = parameter(0, ge=0, help="Random seed of problems and solutions (independent of the run's seed)")

    def data_files(self) -> Mapping[str, Source]:
        """Return the file of a custom program."""
        return program_files(self.program)

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Draw the problems, and run the program on each of them several times.

        Raises:
            UserError: there are too few distinct problems, or a custom program fails or does not terminate.
        """
        problems = TracedIntegers(
            program=self.program,
            width=self.width,
            count=self.count,
            train_problems=self.train_problems,
            validation_problems=0,
            test_problems=self.test_problems,
            problem_seed=self.problem_seed,
        )
        splits = problems.read()[:2]
        train, test = (
            step_split(self._solve(problems.trace_format(), split, name))
            for split, name in zip(splits, ("train", "test"), strict=True)
            if split is not None
        )
        return train, test, STEP_CLASSES

    def _solve(self, trace_format: TraceFormat, split: RawSplit, name: str) -> list[LabeledSolution]:
        """Return the solutions of all problems of a split."""
        stream = Stream("traced steps", self.problem_seed, name)
        prompts = trace_format.decode(split.inputs[:, 0, 0])
        responses = trace_format.decode(split.targets)
        max_digits = DIGITS_PER_CHARACTER * split.targets.shape[1]
        solutions = []
        for prompt, correct in zip(prompts, responses, strict=True):
            has_errors = stream.uniform(self.solutions) < self.error_fraction
            is_replaced = stream.chance(self.intensity, self.solutions, max_digits)
            digits = (stream.uniform(self.solutions, max_digits) * 10).astype(np.int64)
            for row in range(self.solutions):
                positions = np.flatnonzero(is_replaced[row]) if has_errors[row] else np.arange(0)
                recorder = TraceRecorder(positions.tolist(), digits[row, positions].tolist(), max_digits)
                try:
                    response = trace_format.rerun(prompt, correct, recorder)
                except NonTerminating:
                    # An endless run is no solution; a correct one takes its place.
                    response = correct
                solutions.append(_labeled(trace_format, prompt, response))
        return solutions

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Return parameters of a small dataset; nothing is written, since problems are drawn."""
        return {"train_problems": 20, "test_problems": 8}


def _labeled(trace_format: TraceFormat, prompt: str, response: str) -> LabeledSolution:
    """Return the steps of a response with the classes that re-execution gives them."""
    check = trace_format.check(prompt, response)
    steps = [response[step.start : step.stop].removesuffix(trace_format.end) for step in check.steps]
    first_error = None if check.first_error is None else check.first_error - 1
    return LabeledSolution(
        prompt, steps, classes_until(first_error, len(steps)), answer_is_correct=bool(check.answer_is_correct)
    )
