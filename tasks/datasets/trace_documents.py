"""Documents of execution traces, for the pre-training of decoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.source import DatasetSource
from noisybench.data.traces.builtin_programs import PROGRAMS
from noisybench.data.traces.document_format import ANSWER, QUESTION, DocumentTraceFormat, few_shot_text
from noisybench.data.traces.formats import TraceFormat
from noisybench.errors import UserError, nearest
from noisybench.tasks.datasets._traces import encode_split, max_length
from noisybench.tasks.datasets.traced_integers import TracedIntegers
from noisybench.utils.seeds import Stream

LENGTH_FACTOR = 1.5
"""Columns of a response as a multiple of the longest clean one, because noise can lengthen traces."""

Problem = tuple[str, str]
"""Question and trace."""


class TraceDocuments(DatasetSource):
    """Documents of several questions to one program, each followed by its execution trace, as in few-shot prompts.

    A decoder that is trained on them as a language model answers questions without demonstrations and with some: every
    training document begins with a question, and the response is the rest. A test prompt is a document up to its last
    question. Each document has the traces of one of `programs`, all equally often. The problems of `traced_integers` with
    the same seed are split in the same way, so that its validation and test problems occur in no training document.
    """

    license = License("not applicable", access="generated")
    tasks = ("chain_of_thought",)

    programs: list[str] = parameter(
        ["add", "sub", "max"], help="Names of built-in programs", always_in_label=True, access="value"
    )
    width: int = parameter(2, ge=1, le=12, help="Number of digits of each operand", always_in_label=True)
    count: int = parameter(3, ge=2, le=40, help="Number of operands of the programs on lists")
    traces: int = parameter(5, ge=1, le=64, help="Number of traces in a document")
    train_documents: int = parameter(3000, ge=1, help="Number of training documents")
    test_documents: int = parameter(150, ge=1, help="Number of test documents")
    train_problems: int = parameter(3000, ge=1, help="Number of problems of each program for the training documents")
    validation_problems: int = parameter(100, ge=0, help="Number of problems of each program in no document")
    test_problems: int = parameter(300, ge=1, help="Number of problems of each program for the test documents")
    problem_seed: int = parameter(0, ge=0, help="Random seed of problems and documents (independent of the run's seed)")

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Draw the documents from the problems of each program.

        Raises:
            UserError: a program does not exist, or has too few distinct problems.
        """
        self._check_programs()
        self._trace_format = DocumentTraceFormat(
            {name: PROGRAMS[name](self.width, self.count) for name in self.programs}
        )
        problems = [self._problems(name) for name in self.programs]
        train = self._draw_documents([train for train, _ in problems], self.train_documents, "train")
        test = self._draw_documents([test for _, test in problems], self.test_documents, "test")
        # Every trace of a training document is learned, and only the last one of a test document is asked for.
        train_texts, test_texts = (
            [self._divide(document, 0) for document in train],
            [self._divide(document, self.traces - 1) for document in test],
        )
        texts = [*train_texts, *test_texts]
        lengths = (
            max_length([prompt for prompt, _ in texts]),
            int(LENGTH_FACTOR * max_length([response for _, response in texts])) + 1,
        )
        is_validation = self._validation_mask()
        return (
            encode_split(self._trace_format, *_columns(train_texts), lengths, is_validation),
            encode_split(self._trace_format, *_columns(test_texts), lengths),
            tuple(self._trace_format.vocabulary),
        )

    def _check_programs(self) -> None:
        unknown = [name for name in self.programs if name not in PROGRAMS]
        if unknown:
            raise UserError(f"dataset.programs: unknown program `{unknown[0]}`; {nearest(unknown[0], PROGRAMS)}")
        if not self.programs or len(set(self.programs)) < len(self.programs):
            raise UserError(
                f"dataset.programs: give one or more different programs, but got {self.programs}; they are equally frequent"
            )

    def _problems(self, program: str) -> tuple[list[Problem], list[Problem]]:
        """Return the training and the test problems of a program."""
        source = TracedIntegers(
            program=program,
            width=self.width,
            count=self.count,
            train_problems=self.train_problems,
            validation_problems=self.validation_problems,
            test_problems=self.test_problems,
            problem_seed=self.problem_seed,
        )
        train, test, _ = source.read()
        assert test is not None
        trace_format = source.trace_format()
        train_problems, test_problems = (
            list(zip(trace_format.decode(split.inputs[:, 0, 0]), trace_format.decode(split.targets), strict=True))
            for split in (train, test)
        )
        return train_problems[: self.train_problems], test_problems

    def _draw_documents(self, problems: list[list[Problem]], count: int, name: str) -> list[list[Problem]]:
        """Return documents of random problems of one program each, the programs in turn."""
        stream = Stream("trace documents", self.problem_seed, name)
        documents = []
        for number in range(count):
            own = problems[number % len(problems)]
            rows = (stream.uniform(self.traces) * len(own)).astype(np.int64)
            documents.append([own[row] for row in rows.tolist()])
        return documents

    def _divide(self, document: list[Problem], num_shown: int) -> tuple[str, str]:
        """Return the prompt, which has some problems with their traces and an open question, and the response."""
        end = self._trace_format.end
        shown = few_shot_text((question, trace.removesuffix(end)) for question, trace in document[:num_shown])
        prompt = f"{shown}{QUESTION}{document[num_shown][0]}{ANSWER}"
        return prompt, self._trace_format.format_document(document).removeprefix(prompt)

    def _validation_mask(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return the mask of the last training documents, which are drawn in random order."""
        num_validation = round(self.validation_fraction * self.train_documents)
        return np.arange(self.train_documents) >= self.train_documents - num_validation

    def trace_format(self) -> TraceFormat:
        """Return the format of the documents."""
        return self._trace_format

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Return parameters of a small dataset; nothing is written, since problems are drawn."""
        return {"train_documents": 40, "test_documents": 8, "traces": 2, "train_problems": 60, "test_problems": 20}


def _columns(texts: list[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [prompt for prompt, _ in texts], [response for _, response in texts]
