"""Computations that go wrong."""

from __future__ import annotations

from typing import Literal

import numpy as np
from noisybench.noise_models._traces import TraceNoise
from numpy.typing import NDArray

from noisybench.dataset import Split
from noisybench.parameters import parameter
from noisybench.seeds import Stream
from noisybench.traces import Machine, decode, read_prompt

ROOM = 12
"""Digits that may be made for each token of a clean response; more are never needed but by a program that does not end."""


class CotDynamic(TraceNoise):
    """Integers go wrong while the program runs, and everything after is computed from them (Havrilla and Iyer 2024).

    Whenever an integer is made, shown or not, each of its digits from the first that is not zero is replaced with
    probability `intensity` by a uniform one (0 to 9; the authors' code draws 0 to 8). Operands of the prompt stay; their
    reading may go wrong. Unlike in that code, contamination decides about documents here as well, and test problems are never
    noised. `answer` may put the right answer in the place of the program's.
    """

    answer: Literal["noised", "right"] = parameter("noised", help="the noised run's, or the right one", shown=True)

    def noised(self, split: Split, rows: NDArray[np.int64], stream: Stream, length: int) -> list[str]:
        """Responses of noised runs."""
        room = ROOM * length
        wrong = stream.chance(self.intensity, len(split), room)
        digits = (stream.uniform(len(split), room) * 10).astype(np.uint8)
        found, prompts = [], split.inputs[:][:, 0, 0]
        for row in rows:
            program, operands = read_prompt(prompts[row].tolist())
            clean = decode(split.targets[row])
            response = program.trace(operands, Machine(wrong[row].tolist(), digits[row].tolist()))
            if self.answer == "right":
                response = response.partition("#")[0] + "#" + clean.partition("#")[2]
            found.append(response)
        return found
