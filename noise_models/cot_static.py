"""Slips on the page of a trace."""

from __future__ import annotations

from typing import Literal

import numpy as np
from noisybench.noise_models._traces import TraceNoise
from numpy.typing import NDArray

from noisybench.dataset import Split
from noisybench.parameters import parameter
from noisybench.seeds import Stream
from noisybench.traces import decode


class CotStatic(TraceNoise):
    """Edits finished traces: digits, lines, or both; the rest is still the right computation (Havrilla and Iyer 2024).

    `digit`: each digit of the response is replaced with probability `intensity` by a uniform one, which may be the same;
    `exclude_self` never draws the same. `line`: each line but the answer is deleted. `duplicate`: each line is written
    twice. `both`: digits, then deleted lines. `answer` says whether digit noise keeps the answer or treats it like the
    rest, as the authors' code does.
    """

    edit: Literal["digit", "line", "duplicate", "both"] = parameter("digit", help="what is edited", shown=True)
    answer: Literal["noised", "kept"] = parameter("noised", help="whether digit noise reaches the answer", shown=True)
    exclude_self: bool = parameter(False, help="a replaced digit is always another one")

    def noised(self, split: Split, rows: NDArray[np.int64], stream: Stream, length: int) -> list[str]:
        """Edited responses."""
        hits, digits = stream.uniform(len(split), length) < self.intensity, stream.uniform(len(split), length)
        return [self._edited(decode(split.targets[row]), hits[row], digits[row]) for row in rows]

    def _edited(self, text: str, hits: NDArray[np.bool_], digits: NDArray[np.float64]) -> str:
        body, _, answer = text.partition("#")
        if self.edit in ("digit", "both"):
            changed = [
                self._digit(each, draw) if hit else each for each, hit, draw in zip(text, hits, digits, strict=False)
            ]
            body, _, noised = "".join(changed).partition("#")
            answer = answer if self.answer == "kept" else noised
        if self.edit != "digit":
            lines = body.split(";")
            # Other numbers than those of the digits: from the end on.
            chosen = hits[::-1][: len(lines)]
            times = [2 if self.edit == "duplicate" else 0 if each else 1 for each in chosen]
            times = [each if hit else 1 for each, hit in zip(times, chosen, strict=True)]
            body = ";".join(line for line, each in zip(lines, times, strict=True) for _ in range(each))
        return f"{body}#{answer}"

    def _digit(self, character: str, draw: float) -> str:
        if not character.isdigit():
            return character
        if self.exclude_self:
            return str((int(character) + 1 + int(9 * draw)) % 10)
        return str(int(10 * draw))
