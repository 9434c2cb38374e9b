"""GSM8K: grade-school math word problems."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.source import DatasetSource
from noisybench.data.traces.formats import TraceFormat, make_vocabulary
from noisybench.data.traces.gsm8k_calculations import CalculationTraceFormat
from noisybench.data.traces.references import Example, find_references
from noisybench.data.traces.rows import Row, read_rows
from noisybench.errors import UserError, show
from noisybench.tasks.datasets._traces import encode_split, max_length
from noisybench.utils.file_listing import Source
from noisybench.utils.places import expand_user
from noisybench.utils.seeds import Stream

MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
FILES = ("train.jsonl", "test.jsonl")
MODEL_SOLUTIONS_FILE = "example_model_solutions.jsonl"
LENGTH_FACTOR = 1.2
"""Columns of a response as a multiple of the longest one, because noise can lengthen a solution."""

Solution = tuple[str, str, str]
"""Question, clean solution and observed solution."""


class GSM8K(DatasetSource):
    """Grade-school math word problems with solutions whose calculations are annotated (Cobbe et al. 2021).

    `solutions=human` trains on the solutions of the training file and tests on the test file. `solutions=model` trains on
    solutions that language models wrote for the test problems, with their errors (noise=real_world), and tests on the
    problems of the training file. The clean trace of a model's solution is the solution itself if its answer is correct,
    and otherwise the human solution of the same problem. The positions of the errors in a solution are unknown;
    re-execution finds only calculations with an incorrect result.
    """

    license = License("MIT", "https://github.com/openai/grade-school-math")
    tasks = ("chain_of_thought",)

    root: Path | None = parameter(None, help="Folder with train.jsonl, test.jsonl and example_model_solutions.jsonl")
    solutions: Literal["human", "model"] = parameter(
        "human", help="Author of the training solutions", always_in_label=True
    )
    models: list[str] | None = parameter(
        None, help="Models whose solutions to train on, such as 175b_verification (default: all four)", access="value"
    )
    max_characters: int = parameter(
        1024, ge=16, help="Number of characters of question and solution from which a problem is excluded"
    )

    def data_files(self) -> Mapping[str, Source]:
        """Return the problems, and the solutions of models if they are used."""
        names = (*FILES, MODEL_SOLUTIONS_FILE) if self.solutions == "model" else FILES
        return {} if self.root is None else {name: self.root / name for name in names}

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read questions and solutions.

        Raises:
            UserError: a file is missing or damaged, or a model does not exist.
        """
        if self.root is None:
            raise UserError(
                "dataset.root: give the folder with train.jsonl and test.jsonl of GSM8K, e.g. dataset.root=gsm8k"
            )
        folder = expand_user(self.root)
        train, test = ([_question_and_solution(row) for row in read_rows(folder / file)] for file in FILES)
        if self.solutions == "human":
            rows = [(question, solution, solution) for question, solution in train]
            test_rows = test
        else:
            rows, test_rows = self._read_model_solutions(folder / MODEL_SOLUTIONS_FILE), train
        # The longest problem decides the number of columns, and so the memory and time that all others need.
        num_read = len(rows) + len(test_rows)
        rows = [
            (question, clean, observed)
            for question, clean, observed in rows
            if len(question) + max(len(clean), len(observed)) < self.max_characters
        ]
        test_rows = [row for row in test_rows if sum(map(len, row)) < self.max_characters]
        num_skipped = num_read - len(rows) - len(test_rows)
        return self._encode(rows, test_rows, num_skipped)

    def _encode(
        self, rows: list[Solution], test_rows: list[tuple[str, str]], num_skipped: int
    ) -> tuple[RawSplit, RawSplit, tuple[str, ...]]:
        # From both splits, because a test problem may have characters that no training problem has.
        characters = {character for row in [*rows, *test_rows] for text in row for character in text}
        end = CalculationTraceFormat.end
        self._trace_format = CalculationTraceFormat(make_vocabulary(characters, end))
        questions = [question for question, _, _ in rows]
        clean, observed = ([row[column] + end for row in rows] for column in (1, 2))
        test_questions = [question for question, _ in test_rows]
        test_responses = [solution + end for _, solution in test_rows]
        lengths = (
            max_length([*questions, *test_questions]),
            int(LENGTH_FACTOR * max_length([*clean, *observed, *test_responses])) + 1,
        )
        train = encode_split(
            self._trace_format,
            questions,
            clean,
            lengths,
            self._validation_mask(questions),
            observed if self.solutions == "model" else None,
        )
        skipped = (f"{num_skipped} problems of {self.max_characters} or more characters",) if num_skipped else ()
        references = [(question, solution) for question, solution, _ in rows] + test_rows
        examples = [Example(*pair, show(pair[0], limit=60), show(pair[0], limit=30)) for pair in references]
        return (
            replace(train, skipped_files=skipped, notes=find_references(examples, "hashes").notes),
            encode_split(self._trace_format, test_questions, test_responses, lengths),
            tuple(self._trace_format.vocabulary),
        )

    def _read_model_solutions(self, path: Path) -> list[Solution]:
        """Return one row per problem and model."""
        unknown = sorted(set(self.models or ()) - set(MODELS))
        if unknown:
            raise UserError(f"dataset.models: unknown model `{unknown[0]}`; available are {', '.join(MODELS)}")
        rows = []
        for row in read_rows(path):
            for model in self.models or MODELS:
                entry = row.fields.get(model)
                if not (
                    isinstance(entry, dict)
                    and isinstance(entry.get("solution"), str)
                    and isinstance(entry.get("is_correct"), bool)
                ):
                    raise UserError(f"{row.location} lacks `solution` and `is_correct` of {model}")
                question, solution = _normalize(row.text("question")) + "\n", _normalize(entry["solution"])
                clean = solution if entry["is_correct"] else _normalize(row.text("ground_truth"))
                rows.append((question, clean, solution))
        return rows

    def _validation_mask(self, questions: list[str]) -> NDArray[np.bool_]:
        """Return the (N,) mask of validation rows: all solutions of some questions, so that no question is in both splits."""
        # Sorted for the same reason as the characters: the drawn positions must mean the same questions in every
        # process.
        unique = sorted(set(questions))
        num_validation = round(self.validation_fraction * len(unique))
        order = Stream("gsm8k", self.split_seed).permutation(len(unique))
        validation = {unique[position] for position in order[:num_validation].tolist()}
        return np.array([question in validation for question in questions])

    def trace_format(self) -> TraceFormat:
        """Return the format of annotated calculations."""
        return self._trace_format

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write some problems with the solutions of four models."""

        def question(number: int) -> str:
            return f"Bo has {number} pens and gets 3. How many?"

        def solution(number: int, result: int) -> str:
            return f"{number}+3 = <<{number}+3={result}>>{result} pens"

        def write(name: str, rows: list[dict[str, Any]]) -> None:
            (folder / name).write_text("\n".join(json.dumps(row) for row in rows))

        for position, name in enumerate(FILES):
            numbers = range(40 * position, 40 * position + 40)
            write(name, [{"question": question(n), "answer": f"{solution(n, n + 3)}\n#### {n + 3}"} for n in numbers])
        rows: list[dict[str, Any]] = []
        for n in range(40, 80):
            models = {
                model: {
                    "is_correct": (n + k) % 3 > 0,
                    "solution": f"{solution(n, n + 3 + (n + k) % 3 // 2)}\nA: {n + 3}",
                }
                for k, model in enumerate(MODELS)
            }
            rows.append({"question": question(n), "ground_truth": f"{solution(n, n + 3)}\nA: {n + 3}", **models})
        write(MODEL_SOLUTIONS_FILE, rows)
        return {"root": str(folder), "solutions": "model"}


def _question_and_solution(row: Row) -> tuple[str, str]:
    return _normalize(row.text("question")) + "\n", _normalize(row.text("answer"))


def _normalize(text: str) -> str:
    """Return a text with uniform line ends, stripped."""
    return text.replace("\r\n", "\n").replace("\u2028", "\n").strip()
