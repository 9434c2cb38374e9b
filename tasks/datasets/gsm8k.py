"""Grade-school mathematics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.source import DatasetSource
from noisybench.data.traces.formats import TraceFormat
from noisybench.data.traces.gsm8k_calculations import CalculationTraceFormat
from noisybench.errors import UserError
from noisybench.tasks.datasets._traces import examples_of, json_lines, longest
from noisybench.utils.seeds import Stream

MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
FILES = ("train.jsonl", "test.jsonl")
SOLUTIONS = "example_model_solutions.jsonl"
SPARE = 1.2


class GSM8K(DatasetSource):
    """Word problems of grade-school mathematics with solutions whose calculations are annotated (Cobbe et al. 2021).

    `human` trains on the written solutions of the training file and tests on the test file. `model` trains on what language
    models wrote for the test problems, right and wrong as it is (noise=real_world): where a solution's answer is right it is its
    own clean trace, else the human one of the same problem is; problems of the training file are tested on then. Which
    characters of a wrong solution are wrong nobody knows; re-execution finds calculations that are wrong on the page.
    """

    tasks = ("chain_of_thought",)

    root: Path | None = parameter(None, help="folder with train.jsonl, test.jsonl and example_model_solutions.jsonl")
    solutions: Literal["human", "model"] = parameter(
        "human", help="whose solutions are trained on", always_in_label=True
    )
    models: list[str] | None = parameter(
        None, help="whose solutions, such as 175b_verification; by default those of all four"
    )
    longest_text: int = parameter(
        1024, ge=16, help="problems with a longer question and solution together are left out"
    )

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read questions and solutions.

        Raises:
            UserError: a file is missing or damaged.
        """
        if self.root is None:
            raise UserError(
                "dataset.root: give the folder with train.jsonl and test.jsonl of GSM8K, e.g. dataset.root=gsm8k"
            )
        folder = self.root.expanduser()
        train, test = (
            [self._pair(row) for _, row in json_lines(folder / each, ("question", "answer"))] for each in FILES
        )
        if self.solutions == "human":
            rows = [(question, answer, answer) for question, answer in train]
            others = test
        else:
            rows, others = self._written(folder / SOLUTIONS), train
        whole = len(rows) + len(others)
        rows = [row for row in rows if max(len(row[0]) + len(each) for each in row[1:]) < self.longest_text]
        others = [row for row in others if sum(map(len, row)) < self.longest_text]
        left_out = whole - len(rows) - len(others)
        everything = [text for row in [*rows, *others] for text in row]
        self._form = CalculationTraceFormat("".join(sorted(set("".join(everything)))) + CalculationTraceFormat.end)
        end = self._form.end
        columns = (
            longest([row[0] for row in [*rows, *others]]),
            int(SPARE * longest([text + end for row in [*rows, *others] for text in row[1:]])) + 1,
        )
        known, given = ([row[part] + end for row in rows] for part in (1, 2))
        questions = [row[0] for row in rows]
        skipped = (f"{left_out} problems of more than {self.longest_text} characters",) if left_out else ()
        found = examples_of(
            self._form,
            questions,
            known,
            columns,
            self._held_out(questions),
            given if self.solutions == "model" else None,
        )
        return (
            RawSplit(found.inputs, found.targets, found.noisy_targets, skipped, found.validation_mask),
            examples_of(self._form, [row[0] for row in others], [row[1] + end for row in others], columns),
            tuple(self._form.vocabulary),
        )

    @staticmethod
    def _pair(row: dict[str, Any]) -> tuple[str, str]:
        return _plain(row["question"]) + "\n", _plain(row["answer"])

    def _written(self, path: Path) -> list[tuple[str, str, str]]:
        """Question, clean trace and written solution of every model."""
        wrong = sorted(set(self.models or ()) - set(MODELS))
        if wrong:
            raise UserError(f"dataset.models: there is no `{wrong[0]}`; there are {', '.join(MODELS)}")
        rows = []
        for number, row in json_lines(path, ("question", "ground_truth")):
            for model in self.models or MODELS:
                told = row.get(model)
                if not (
                    isinstance(told, dict)
                    and isinstance(told.get("solution"), str)
                    and isinstance(told.get("is_correct"), bool)
                ):
                    raise UserError(f"{path}: line {number} has no solution and is_correct of {model}")
                question, solution = _plain(row["question"]) + "\n", _plain(told["solution"])
                rows.append((question, solution if told["is_correct"] else _plain(row["ground_truth"]), solution))
        return rows

    def _held_out(self, questions: list[str]) -> Any:
        """Which are for validation: all solutions of some questions, so that none is in both parts."""
        different = sorted(set(questions))
        count = round(self.validation_fraction * len(different))
        order = Stream("gsm8k", self.split_seed).permutation(len(different))
        chosen = {different[each] for each in order[:count].tolist()}
        return np.array([each in chosen for each in questions])

    def trace_format(self) -> TraceFormat:
        """Annotated text."""
        return self._form

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Some problems, and what four models make of them."""

        def problem(number: int, result: int) -> str:
            return f"{number}+3 = <<{number}+3={result}>>{result} pens"

        def lines(name: str, rows: list[dict[str, Any]]) -> None:
            (folder / name).write_text("\n".join(json.dumps(each) for each in rows))

        for place, name in enumerate(FILES):
            lines(
                name,
                [
                    {
                        "question": f"Bo has {n} pens and gets 3. How many?",
                        "answer": f"{problem(n, n + 3)}\n#### {n + 3}",
                    }
                    for n in range(40 * place, 40 * place + 40)
                ],
            )
        lines(
            SOLUTIONS,
            [
                {
                    "question": f"Bo has {n} pens and gets 3. How many?",
                    "ground_truth": f"{problem(n, n + 3)}\nA: {n + 3}",
                    **{
                        model: {
                            "is_correct": (n + k) % 3 > 0,
                            "solution": f"{problem(n, n + 3 + (n + k) % 3 // 2)}\nA: {n + 3}",
                        }
                        for k, model in enumerate(MODELS)
                    },
                }
                for n in range(40, 80)
            ],
        )
        return {"root": str(folder), "solutions": "model"}


def _plain(text: str) -> str:
    """A text with the line ends of one kind, and none at its ends."""
    return text.replace("\r\n", "\n").replace("\u2028", "\n").strip()
