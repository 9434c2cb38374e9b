"""Irrelevant and inaccurate thoughts inserted into traces."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.data.dataset import Split
from noisybench.data.targets import TOKEN_CORRECT, TOKEN_CORRUPTED, TOKEN_UNKNOWN
from noisybench.data.traces.formats import TraceFormat
from noisybench.errors import UserError
from noisybench.noise_models._traces import NoisyResponses, TraceNoise, encode_or_cut
from noisybench.utils.seeds import Stream

LARGEST = 50
"""Numbers of thoughts are below it."""


class CotThoughts(TraceNoise):
    """Insert thoughts that do not help into a trace, and keep everything else, the answer included.

    After each line of a corrupted trace a line is inserted with probability `intensity` (after Zhou et al. 2024,
    NoisyRationales): an `irrelevant` thought is a correct sum that nothing uses, an `inaccurate` one a sum with an
    incorrect result. In texts the sums are annotated calculations, in traces of programs plain lines. Characters of the
    inserted lines have the status `corrupted`.
    """

    fidelity = Fidelity(
        reference="",
        commit="",
        compared="inserted lines are sums, correct or not; all other lines and the answer stay; share of lines with a "
        "thought after them",
        deviations=(
            Deviation(
                "the authors take facts about the numbers of each problem, and wrong calculations in other bases, from lists "
                "of sentences; here thoughts are sums of two numbers",
                "sums fit traces of every program and every text with calculations, and need no list",
                "thoughts are farther from the problem, so that they may confuse a model less",
            ),
        ),
    )
    stream_name = "cot_thoughts"

    kind: Literal["irrelevant", "inaccurate"] = parameter(
        "irrelevant", help="Kind of the inserted thoughts: correct and unused, or incorrect", always_in_label=True
    )

    def corrupt_traces(
        self, trace_format: TraceFormat, split: Split, rows: NDArray[np.int64], stream: Stream
    ) -> NoisyResponses:
        """Return responses with inserted lines, and the status of their tokens."""
        length = split.targets.shape[1]
        lines_of = [trace_format.split_response(text)[0] for text in trace_format.decode(split.targets)]
        count = max(1, max(map(len, lines_of)))
        # Numbers are drawn for all rows of the split, so that the thoughts of a row do not depend on the contamination.
        is_inserted = stream.uniform(len(split), count) < self.intensity
        uniform = stream.uniform(len(split), count, 3)
        status = np.full((len(rows), length), TOKEN_CORRECT, dtype=np.uint8)
        texts: list[str | None] = []
        for number, (row, clean) in enumerate(
            zip(rows.tolist(), trace_format.decode(split.targets[rows]), strict=True)
        ):
            lines, tail = trace_format.split_response(clean)
            written: list[str] = []
            thoughts: list[int] = []
            for position, line in enumerate(lines):
                written.append(line)
                if is_inserted[row, position]:
                    thoughts.append(len(written))
                    written.append(self._thought(trace_format, uniform[row, position]))
            texts.append(trace_format.separator.join(written) + tail)
            spans = trace_format.line_spans(written, tail)
            for thought in thoughts:
                status[number, slice(*spans[thought])] = TOKEN_CORRUPTED
            if len(texts[-1] or "") > length:
                status[number] = TOKEN_UNKNOWN
        return encode_or_cut(trace_format, texts, length), status

    def _thought(self, trace_format: TraceFormat, uniform: NDArray[np.float64]) -> str:
        """Return a line with a sum of two numbers.

        Raises:
            UserError: the traces lack a character of sums.
        """
        left, right = (int(LARGEST * number) for number in uniform[:2])
        result = left + right
        if self.kind == "inaccurate":
            # One of the other numbers up to the largest sum.
            result = (result + 1 + int(uniform[2] * (2 * LARGEST - 1))) % (2 * LARGEST)
        line = f"{left}+{right}={result}"
        if trace_format.separator == "\n":
            line = f"{left}+{right}=<<{line}>>{result}"
        missing = sorted(set(line) - set(trace_format.vocabulary))
        if missing:
            raise UserError(
                f"noise: `cot_thoughts` writes sums such as {line}, but the traces never have the character {missing[0]!r}; "
                "choose cot_static, or traces with annotated calculations"
            )
        return line
