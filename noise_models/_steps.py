"""Shared parts of the noise models for steps: the first incorrect step of a solution is labeled at another place."""

from __future__ import annotations

import abc
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.data.dataset import Dataset, Split
from noisybench.data.noise_model import NoiseModel
from noisybench.data.splits.splits import take
from noisybench.data.targets import Targets
from noisybench.data.traces.steps import CORRECT, INCORRECT, LabeledSolution, StepPlaces, classes_until, step_split
from noisybench.utils.seeds import Stream


class StepNoise(NoiseModel):
    """Base class of noise models that move the first incorrect step of a fraction of the solutions.

    All steps before the new place are labeled as correct, and all from it on as incorrect, so that one error of an
    annotator changes the labels of several steps.
    """

    tasks = ("step_verification",)
    convention: ClassVar[str] = "fraction of step labels that differ; `rate` is the fraction of mislabeled solutions"
    example_classes = ("incorrect", "correct")

    rate: float = parameter(
        0.3, ge=0, le=1, low=0.1, high=0.6, help="Fraction of the solutions whose steps are mislabeled",
        always_in_label=True,
    )  # fmt: skip

    @abc.abstractmethod
    def move(self, first_error: int, count: int, uniform: NDArray[np.float64]) -> int:
        """Return another position of the first incorrect step.

        Args:
            first_error: position of the first incorrect step, from 0; ``count`` if all steps are correct.
            count: number of steps.
            uniform: (2,) numbers in [0, 1).
        """

    def corrupt_labels(self, dataset: Dataset, split: Split, stream: Stream) -> Targets:
        """Return the classes of the steps, with the first incorrect step of some solutions moved."""
        observed: Targets = split.targets.copy()
        solutions = StepPlaces.of(split).by_solution()
        # One row for each solution, so that a greater rate mislabels a superset of the solutions.
        uniform = stream.uniform(len(solutions), 3)
        for rows, numbers in zip(solutions, uniform, strict=True):
            if numbers[0] >= self.rate:
                continue
            incorrect = np.flatnonzero(split.targets[rows] != CORRECT)
            first_error = int(incorrect[0]) if len(incorrect) else len(rows)
            moved = self.move(first_error, len(rows), numbers[1:])
            observed[rows] = np.where(np.arange(len(rows)) < moved, CORRECT, INCORRECT)
        return observed

    @classmethod
    def example_dataset(cls, dataset: Dataset) -> Dataset:
        """Return solutions of four steps, half of them with an error at the third one."""

        def solutions(name: str, count: int) -> Split:
            raw = step_split(
                [
                    LabeledSolution(
                        f"{name} {number}", ["a", "b", "c", "d"], classes_until(None if number % 2 else 2, 4)
                    )
                    for number in range(count)
                ]
            )
            return take(raw, np.arange(len(raw.targets)))

        train, validation, test = (
            solutions(name, count) for name, count in (("train", 100), ("val", 20), ("test", 20))
        )
        return Dataset("solutions", train, validation, test, cls.example_classes, source_size=len(train))
