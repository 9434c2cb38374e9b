"""Errors in the computation of a trace."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.config.fidelity import Deviation, Fidelity
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
    and Iyer 2024), from the first nonzero one on. Operands in the prompt stay as they are, but the run may misread them.
    Test problems are never corrupted. In annotated calculations the results are corrupted, and later mentions follow them.
    The same intensity is weaker than in the authors' code for `add`, and stronger for `sort` and `median`: compare shares
    of incorrect answers, which the manifest has, instead of intensities.

    `answer`: `recomputed` is that of the noisy run, `kept` the correct one, `corrupted` that of the run with replaced
    digits.
    """

    fidelity = Fidelity(
        reference="https://github.com/Dahoas/transformer_arithmetic",
        commit="7e5fe0a667cd40d6ce2c346ed21610e0b6254595",
        license="not stated",
        compared=(
            "noisy integers with given random numbers; clean answers of add, sub, mul, gcd, sort and median; share of "
            "incorrect answers of 400 runs of add and median"
        ),
        difference="no integer and no clean answer differs; shares of incorrect answers as below",
        golden=("cot_dynamic",),
        deviations=(
            Deviation(
                "the code reads digits through noisy lengths, and stores the rest of each operand and the result so far anew "
                "in every column of `add`; here digits, sums and carries are stored once",
                "lines of a column are one step here, which re-execution checks",
                "incorrect answers at intensities .05 / .1 / .2: width 2 .45 / .73 / .92 instead of .63 / .85 / .98, "
                "width 5 .77 / .95 / 1.0 instead of .98 / 1.0 / 1.0",
            ),
            Deviation(
                "the code corrupts operands before it writes the prompt, and `sort` and `median` store no integer after it, so "
                "that only their answer is corrupted; here the prompt stays correct, and numbers are stored when they are read "
                "and when they are shown",
                "a corrupted prompt with a correct trace is another problem, not noise; the steps themselves must be noisy",
                "incorrect answers of the median of 5 numbers of width 2 at intensities .05 / .2 / .4: .31 / .76 / .96 "
                "instead of .08 / .30 / .59",
            ),
            Deviation(
                "the code draws digits from 0 to 8; here from 0 to 9",
                "an error of the code",
                "a selected digit changes with probability .9 instead of .89 (digits 0 to 8) or 1 (digit 9)",
            ),
            Deviation(
                "the code corrupts every trace, test problems included; here `contamination` selects whole traces of the "
                "training split",
                "the contamination of the paper; scores are of correct problems",
                "none at contamination 1, but for the test split",
            ),
        ),
    )
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
