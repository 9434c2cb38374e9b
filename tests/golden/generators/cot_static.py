"""Static noise of the authors, with given random numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from tests.golden.generators import cot_dynamic

REFERENCE, COMMIT = cot_dynamic.REFERENCE, cot_dynamic.COMMIT
COMPUTED = "gen_arithmetic_data.add_char_noise and .add_line_noise on a trace of 9 lines, with given random numbers"

TRACE = "x = 47 , y = 5\nres = 0\ndigx = 7\ndigy = 5\nds = 12\nres = 2\ncarry = 1\nds = 5\n52"
DRAWS, INTENSITY = 12, 0.4


def generate(folder: Path) -> dict[str, Any]:
    """Return decisions, new digits and noisy traces; traces are arrays of code points, padded with zeros."""
    module, rng = cot_dynamic.load(folder), np.random.default_rng(0)
    digits, lines = sum(character.isdigit() for character in TRACE), TRACE.count("\n")
    chances, new_digits = rng.random((DRAWS, digits)), rng.integers(0, 10, (DRAWS, digits))
    deleted = rng.random((DRAWS, lines))
    texts: dict[str, list[str]] = {"digit": [], "line": []}
    for draw in range(DRAWS):
        chance, digit, used = iter(chances[draw]), new_digits[draw], [0]

        def next_chance(count: int, chance: Any = chance, used: list[int] = used) -> torch.Tensor:
            used[0] += 1
            return torch.tensor([next(chance)])

        def next_digit(low: int, high: int, size: Any, digit: Any = digit, used: list[int] = used) -> torch.Tensor:
            return torch.tensor([digit[used[0] - 1]])

        with mock.patch.object(torch, "rand", next_chance), mock.patch.object(torch, "randint", next_digit):
            texts["digit"].append(module.add_char_noise(TRACE, INTENSITY))
        with mock.patch("numpy.random.rand", lambda count, draw=draw: deleted[draw]):
            texts["line"].append(module.add_line_noise(TRACE, INTENSITY))
    points = {
        name: [np.array([*map(ord, text.ljust(len(TRACE), "\0"))]) for text in given] for name, given in texts.items()
    }
    return {
        "trace": np.array([*map(ord, TRACE)]), "is_replaced": chances < INTENSITY, "new_digits": new_digits,
        "is_deleted": deleted <= INTENSITY, **{name: np.array(given, dtype=np.uint8) for name, given in points.items()},
    }  # fmt: skip
