"""Computations that go wrong."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.data.dataset import Split
from noisybench.data.traces.formats import TraceFormat
from noisybench.data.traces.recorder import NonTerminating, TraceRecorder
from noisybench.noise_models._traces import Noised, TraceNoise, fitted
from noisybench.utils.seeds import Stream

ROOM = 6
"""Digits that may be made for each character of a clean response; a run that makes more counts as one that does not end."""


class CotDynamic(TraceNoise):
    """Integers go wrong while the program runs, and everything after is computed from them (Havrilla and Iyer 2024).

    Whenever an integer is made, shown or not, each of its digits from the first that is not zero is replaced with
    probability `intensity` by a uniform one (0 to 9; the authors' code draws 0 to 8). Operands of the prompt stay; their
    reading may go wrong. Unlike in that code, contamination decides about documents here as well, and test problems are never
    noised. Of annotated calculations it is their results that go wrong, and later mentions of these follow.

    `answer`: `recomputed` is the noised run's own, `kept` the right one, `corrupted` the run's own with wrong digits.
    """

    stream_name = "CotDynamic"

    answer: Literal["kept", "recomputed", "corrupted"] = parameter(
        "recomputed", help="the right one, the noised run's, or that with wrong digits", always_in_label=True
    )

    def noised(self, form: TraceFormat, split: Split, rows: NDArray[np.int64], stream: Stream) -> Noised:
        """Responses of noised runs."""
        length = split.targets.shape[1]
        room = ROOM * length
        documents, columns = np.nonzero(stream.chance(self.intensity, len(split), room))
        digits = (stream.uniform(len(split), room)[documents, columns] * 10).astype(np.int64).tolist()
        places, starts = columns.tolist(), np.searchsorted(documents, np.arange(len(split) + 1)).tolist()
        if self.answer == "corrupted":
            hits, draws = stream.uniform(len(split), length) < self.intensity, stream.uniform(len(split), length)
        prompts, clean = form.decode(split.inputs[:][rows, 0, 0]), form.decode(split.targets[rows])
        texts: list[str | None] = []
        for row, prompt, before in zip(rows.tolist(), prompts, clean, strict=True):
            try:
                own = slice(starts[row], starts[row + 1])
                text = form.rerun(prompt, before, TraceRecorder(places[own], digits[own], room))
            except NonTerminating:
                texts.append(None)
                continue
            if self.answer == "kept":
                text = form.replace_answer(text, before)
            elif self.answer == "corrupted":
                start = form.step_spans(text)[-1][0]
                text = text[:start] + "".join(
                    str(int(10 * draws[row, place])) if each.isdigit() and place < length and hits[row, place] else each
                    for place, each in enumerate(text[start:])
                )
            texts.append(text)
        return fitted(form, texts, length), None
