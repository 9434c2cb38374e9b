"""Labeled steps of solutions from a file: ProcessBench, PRMBench, PRM800K, or model solutions of GSM8K."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.notes import ReadingNote
from noisybench.data.source import DatasetSource
from noisybench.data.traces.rows import read_folder, read_rows
from noisybench.data.traces.step_formats import read_solutions
from noisybench.data.traces.steps import STEP_CLASSES, LabeledSolution, step_split
from noisybench.errors import UserError
from noisybench.utils.places import expand_user
from noisybench.utils.seeds import Stream


class StepFile(DatasetSource):
    """Steps of solutions, each labeled as correct or incorrect, from files of process supervision.

    An example is a problem with the steps of a solution up to one of them. A step is correct if it and all steps before
    it are. Formats, found from the fields: ProcessBench (`problem`, `steps`, `label`: the first incorrect step from 0,
    or -1), PRMBench (`modified_question`, `modified_process`, `error_steps` from 1), PRM800K (`question`, `label`: the
    chosen completions with their ratings, up to the first one rated -1), and the model solutions of GSM8K (`question`,
    and `solution` and `is_correct` of each model). All solutions of a problem are in one split. Other fields are kept,
    with the numbers of problem, solution and step.

    Model solutions are labeled by their outcome only: every step is observed as the answer is (noise=real_world), the
    class of the steps before an incorrect answer is unknown, and the test split has complete solutions.
    """

    license = License("not applicable", access="own files")
    own_files = True
    tasks = ("step_verification", "transfer")

    path: Path | None = parameter(
        None, help="Path of the .jsonl, .json or .parquet file, or of a folder with files of the splits"
    )
    row_format: Literal["processbench", "prmbench", "prm800k", "model_solutions"] | None = parameter(
        None, help="Format of the rows (default: found from their fields)"
    )

    max_characters: int | None = parameter(
        None, ge=16, help="Number of characters of problem and steps from which a solution is left out (default: none)"
    )

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read all rows.

        Raises:
            UserError: a row is invalid, or its labels do not fit its steps; the message gives its number and the reason.
        """
        if self.path is None:
            raise UserError("dataset.path: give the file of labeled steps, e.g. dataset.path=processbench.jsonl")
        path = expand_user(self.path)
        rows = read_folder(path)[0] if path.is_dir() else read_rows(path)
        found = read_solutions(rows, self.row_format)
        solutions = [each for each in found if len(each.texts[-1]) < (self.max_characters or math.inf)]
        if not solutions:
            reason = "is short enough; increase dataset.max_characters" if found else "has a rated step; add some"
            raise UserError(f"{path}: no solution {reason}")
        notes: tuple[ReadingNote, ...] = ()
        if len(solutions) < len(found):
            text = f"Solutions of {self.max_characters} or more characters were left out"
            notes = (ReadingNote("long_solutions", text, len(found) - len(solutions)),)
        if all(solution.observed is None for solution in solutions):
            return replace(step_split(solutions), notes=notes), None, STEP_CLASSES
        train, test = self._hold_out(solutions)
        # Incorrect solutions have no known class before their answer.
        return replace(step_split(train), notes=notes), step_split(test, last_only=True), STEP_CLASSES

    def _hold_out(self, solutions: list[LabeledSolution]) -> tuple[list[LabeledSolution], list[LabeledSolution]]:
        """Return training and test solutions; those of a problem are in one of them."""
        # Sorted, so that a drawn position means the same problem in every process.
        problems = sorted({solution.problem for solution in solutions})
        order = Stream("steps", self.split_seed).permutation(len(problems))
        chosen = {problems[row] for row in order[: round(self.test_fraction * len(problems))].tolist()}
        train = [solution for solution in solutions if solution.problem not in chosen]
        return train, [solution for solution in solutions if solution.problem in chosen]

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write solutions in the format of ProcessBench."""
        rows = []
        for number in range(40):
            steps = [f"{number}+3={number + 3}", f"{number + 3}+4={number + 7 + number % 3 // 2}"]
            label = 1 if number % 3 == 2 else -1
            rows.append(
                {
                    "id": f"sum-{number}",
                    "problem": f"What is {number}+3+4?",
                    "steps": steps,
                    "label": label,
                    "final_answer_correct": label < 0,
                }
            )
        (folder / "steps.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
        return {"path": str(folder / "steps.jsonl")}
