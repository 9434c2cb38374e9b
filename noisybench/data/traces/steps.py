"""Steps of solutions as examples: their texts, their classes, and the solution to which each one belongs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.data.dataset import RawSplit, Split
from noisybench.data.texts import text_inputs
from noisybench.errors import UserError

INCORRECT, CORRECT = 0, 1
"""Classes of steps."""

STEP_CLASSES = ("incorrect", "correct")
"""Names of the classes."""

PLACE_FIELDS = ("problem", "solution", "step", "answer_is_correct")
"""Fields of every example: number of its problem, number of its solution, number of the step, and the correctness of the
answer of the solution (None if unknown)."""


@dataclass(frozen=True)
class LabeledSolution:
    """A solution in steps, with a class for each.

    Attributes:
        problem: text of the problem.
        steps: texts of the steps.
        classes: class of each step, `CORRECT` as long as no step is incorrect; `UNKNOWN_TARGET` if it is unknown.
        observed: classes that come with the data, if they are noisy.
        answer_is_correct: correctness of the final answer; None if unknown.
        fields: further fields of the row.
    """

    problem: str
    steps: Sequence[str]
    classes: Sequence[int]
    observed: Sequence[int] | None = None
    answer_is_correct: bool | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def texts(self) -> list[str]:
        """Problem and steps up to and including each step, each with a line break after it."""
        # In one line, so that the first line break is the end of the problem.
        text, texts = " ".join(self.problem.split()) + "\n", []
        for step in self.steps:
            text += f"{step}\n"
            texts.append(text)
        return texts


def classes_until(first_error: int | None, count: int) -> list[int]:
    """Return the classes of the steps of a solution; from its first incorrect step on, all are incorrect.

    Args:
        first_error: position of the first incorrect step, from 0; None without one.
        count: number of steps.

    Example:
        >>> classes_until(1, 3), classes_until(None, 2)
        ([1, 0, 0], [1, 1])
    """
    first = count if first_error is None else first_error
    return [CORRECT if step < first else INCORRECT for step in range(count)]


def step_split(solutions: Sequence[LabeledSolution], last_only: bool = False) -> RawSplit:
    """Return the steps of solutions as examples of classes; those of a problem are one group.

    Args:
        solutions: solutions with their classes.
        last_only: only the last step of each solution, that is the complete solution.

    Example:
        >>> split = step_split([LabeledSolution("1+1?", ["1+1=3", "So 3."], [0, 0], answer_is_correct=False)])
        >>> split.targets, split.inputs[1].item()
        (array([0, 0]), '1+1?\\n1+1=3\\nSo 3.\\n')
        >>> split.fields[1]
        {'problem': 0, 'solution': 0, 'step': 2, 'answer_is_correct': False}
    """
    numbers: dict[str, int] = {}
    texts: list[str] = []
    classes: list[int] = []
    observed: list[int] = []
    fields: list[dict[str, Any]] = []
    groups: list[str] = []
    for number, solution in enumerate(solutions):
        problem = numbers.setdefault(solution.problem, len(numbers))
        place = {"problem": problem, "solution": number, "step": 0, "answer_is_correct": solution.answer_is_correct}
        kept = slice(-1, None) if last_only else slice(None)
        texts += solution.texts[kept]
        classes += solution.classes[kept]
        observed += (solution.observed or solution.classes)[kept]
        steps = range(1, len(solution.steps) + 1)[kept]
        # The digest separates problems with the same beginning.
        digest = hashlib.sha256(solution.problem.encode()).hexdigest()[:12]
        groups += [f"{solution.problem[:40]} ({digest})"] * len(steps)
        own = {f"original_{name}" if name in place else name: value for name, value in solution.fields.items()}
        fields += [{**own, **place, "step": step} for step in steps]
    is_noisy = any(solution.observed is not None for solution in solutions)
    return RawSplit(
        text_inputs(texts),
        np.array(classes, dtype=np.int64),
        noisy_targets=np.array(observed, dtype=np.int64) if is_noisy else None,
        groups=np.array(groups, dtype=np.str_),
        fields=tuple(fields),
    )


@dataclass(frozen=True)
class StepPlaces:
    """Solution, problem and answer to which each of N steps belongs.

    Attributes:
        problem: (N,) number of the problem.
        solution: (N,) number of the solution.
        step: (N,) number of the step in its solution, from 1.
        answer_is_correct: (N,) 1 or 0, NaN if unknown.

    Example:
        >>> raw = step_split([LabeledSolution("1+1?", ["1+1=2", "So 2."], [1, 1])])
        >>> places = StepPlaces.of(Split(raw.inputs, raw.targets, np.arange(2), fields=raw.fields))
        >>> places.step, places.by_solution()
        (array([1, 2]), [array([0, 1])])
    """

    problem: NDArray[np.int64]
    solution: NDArray[np.int64]
    step: NDArray[np.int64]
    answer_is_correct: NDArray[np.float64]

    @classmethod
    def of(cls, split: Split) -> StepPlaces:
        """Return the places of the examples of a split.

        Raises:
            UserError: the examples are not steps of solutions.
        """
        try:
            problem, solution, step = (
                np.array([split.fields[row][name] for row in range(len(split))], dtype=np.int64)
                for name in PLACE_FIELDS[:3]
            )
            answers = [split.fields[row]["answer_is_correct"] for row in range(len(split))]
            correct = np.array([np.nan if answer is None else float(answer) for answer in answers])
        except (IndexError, KeyError, OverflowError, TypeError, ValueError):
            # Without the fields of steps, or with other values in fields of these names.
            raise UserError(
                "dataset: its examples are not steps of solutions; choose a dataset of steps, such as step_file or "
                "traced_steps"
            ) from None
        return cls(problem, solution, step, correct)

    def by_solution(self) -> list[NDArray[np.int64]]:
        """Return the positions of the steps of each solution, in the order of the steps."""
        order = np.lexsort((self.step, self.solution))
        starts = np.flatnonzero(np.diff(self.solution[order])) + 1
        return list(np.split(order, starts)) if len(order) else []
