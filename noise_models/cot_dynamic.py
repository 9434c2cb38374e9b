"""Errors in the computation of a trace."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.data.dataset import Split
from noisybench.data.traces.formats import TraceFormat
from noisybench.data.traces.recorder import NonTerminating, TraceRecorder
from noisybench.noise_models._traces import NoisyResponses, TraceNoise, encode_or_cut
from noisybench.utils.seeds import Stream

DIGITS_PER_CHARACTER = 6
"""Number of digits that a run may compute per character of the longest response before it counts as non-terminating."""


class CotDynamic(TraceNoise):
    """Corrupt integers while the program runs, and compute everything after them from the corrupted ones.

    Each digit of a computed integer, shown or not, is replaced with probability `intensity` by a uniform digit (Havrilla
    and Iyer 2024), from the first nonzero one on. Digits are 0 to 9; the authors' code draws 0 to 8. Operands in the prompt
    stay as they are, but the run may misread them. Unlike in that code, contamination selects whole traces, and test
    problems are never corrupted. In annotated calculations the results are corrupted, and later mentions follow them.

    `answer`: `recomputed` is that of the noisy run, `kept` the correct one, `corrupted` that of the run with replaced
    digits.
    """

    stream_name = "CotDynamic"

    answer: Literal["kept", "recomputed", "corrupted"] = parameter(
        "recomputed",
        help="Answer of a corrupted trace: the correct one, that of the noisy run, or the latter with replaced digits",
        always_in_label=True,
    )

    def corrupt_traces(
        self, trace_format: TraceFormat, split: Split, rows: NDArray[np.int64], stream: Stream
    ) -> NoisyResponses:
        """Return the responses of noisy runs; re-execution determines the status of their tokens."""
        length = split.targets.shape[1]
        max_digits = DIGITS_PER_CHARACTER * length
        # Numbers are drawn for all rows of the split, so that a row's errors do not depend on the contamination.
        error_rows, error_columns = np.nonzero(stream.chance(self.intensity, len(split), max_digits))
        new_digits = (stream.uniform(len(split), max_digits)[error_rows, error_columns] * 10).astype(np.int64).tolist()
        # `nonzero` is ordered by row, so the errors of each row are one slice.
        positions, row_starts = error_columns.tolist(), np.searchsorted(error_rows, np.arange(len(split) + 1)).tolist()
        # Last in the stream, so that the other choices of `answer` have the same errors in their lines.
        if self.answer == "corrupted":
            is_replaced, uniform = (
                stream.uniform(len(split), length) < self.intensity,
                stream.uniform(len(split), length),
            )
        prompts = trace_format.decode(split.inputs[:][rows, 0, 0])
        clean_texts = trace_format.decode(split.targets[rows])
        texts: list[str | None] = []
        for row, prompt, clean in zip(rows.tolist(), prompts, clean_texts, strict=True):
            errors = slice(row_starts[row], row_starts[row + 1])
            try:
                text = trace_format.rerun(
                    prompt, clean, TraceRecorder(positions[errors], new_digits[errors], max_digits)
                )
            except NonTerminating:
                texts.append(None)
                continue
            if self.answer == "kept":
                text = trace_format.replace_answer(text, clean)
            elif self.answer == "corrupted":
                # A noisy run may write a longer answer than there are random numbers; its further characters stay.
                answer_start = trace_format.step_spans(text)[-1][0]
                answer = (
                    str(int(10 * uniform[row, column]))
                    if character.isdigit() and column < length and is_replaced[row, column]
                    else character
                    for column, character in enumerate(text[answer_start:])
                )
                text = text[:answer_start] + "".join(answer)
            texts.append(text)
        return encode_or_cut(trace_format, texts, length), None
