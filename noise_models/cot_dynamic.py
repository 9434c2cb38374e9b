"""Computations that go wrong."""

from __future__ import annotations

from typing import Literal

import numpy as np
from noisybench.noise_models._traces import Noised, TraceNoise, blank, fitted, told_by_execution
from numpy.typing import NDArray

from noisybench.dataset import Split
from noisybench.parameters import parameter
from noisybench.seeds import Stream
from noisybench.traces.formats import TraceFormat
from noisybench.traces.machine import Machine, Unending

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

    answer: Literal["kept", "recomputed", "corrupted"] = parameter(
        "recomputed", help="the right one, the noised run's, or that with wrong digits", shown=True
    )

    def noised(self, form: TraceFormat, split: Split, rows: NDArray[np.int64], stream: Stream) -> Noised:
        """Responses of noised runs."""
        length = split.targets.shape[1]
        room = ROOM * length
        places = wrong_places(stream, self.intensity, len(split), room)
        digits = (stream.uniform(len(split), room) * 10).astype(np.uint8)
        if self.answer == "corrupted":
            hits, draws = stream.uniform(len(split), length) < self.intensity, stream.uniform(len(split), length)
        prompts, clean = form.decode(split.inputs[:][rows, 0, 0]), form.decode(split.targets[rows])
        texts: list[str | None] = []
        events = blank(len(rows), length)
        for number, (row, prompt, before) in enumerate(zip(rows.tolist(), prompts, clean, strict=True)):
            try:
                text = form.rerun(prompt, before, Machine(places[row], digits[row]))
            except Unending:
                texts.append(None)
                continue
            if self.answer == "kept":
                text = form.with_answer(text, before)
            elif self.answer == "corrupted":
                start = form.step_spans(text)[-1][0]
                text = text[:start] + "".join(
                    str(int(10 * draws[row, place])) if each.isdigit() and place < length and hits[row, place] else each
                    for place, each in enumerate(text[start:])
                )
            texts.append(text)
            if len(text) <= length:
                events[number] = told_by_execution(form, prompt, before, text, length)
        return fitted(form, texts, length), events


def wrong_places(stream: Stream, intensity: float, count: int, room: int) -> list[list[int]]:
    """For each of some documents, the ascending places of wrong digits."""
    rows, columns = np.nonzero(stream.chance(intensity, count, room))
    stops = np.searchsorted(rows, np.arange(1, count))
    return [each.tolist() for each in np.split(columns, stops)]
