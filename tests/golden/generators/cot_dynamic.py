"""Noisy integers, clean answers, and shares of incorrect answers from the authors' traced integers."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

REFERENCE = "https://github.com/Dahoas/transformer_arithmetic"
COMMIT = "7e5fe0a667cd40d6ce2c346ed21610e0b6254595"
COMPUTED = (
    "func.TInt with given random numbers; clean answers of add, sub, mul, gcd, sort and median; share of incorrect answers "
    "of add and median under dynamic noise, with their standard errors of at most .025"
)

RATES = {("add", 2, 2): (0.05, 0.1, 0.2), ("add", 2, 5): (0.05, 0.1, 0.2), ("median", 5, 2): (0.05, 0.2, 0.4)}
"""Intensities by program, number of operands and width."""
PROBLEMS = 400


def generate(folder: Path) -> dict[str, Any]:
    """Return stored integers, answers and shares."""
    module = load(folder)
    return _integers(module.TInt) | _answers(module) | _rates(module)


def load(folder: Path) -> Any:
    """Return the module of the data, which reads a file of its folder when it is imported."""
    sys.path.insert(0, str(folder))
    sys.modules["datasets"] = mock.MagicMock()
    before = Path.cwd()
    os.chdir(folder)
    import gen_arithmetic_data

    os.chdir(before)
    return gen_arithmetic_data


def _integers(integer: Any) -> dict[str, Any]:
    """Store integers with given decisions and digits; the first number of a row is the integer."""
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.integers(0, 10**digits, 15) for digits in (1, 2, 4)])
    integer.set_dynamic_noise(0.4)
    chances, digits, stored = rng.random((len(values), 4)), rng.integers(0, 9, (len(values), 4)), []
    for value, chance, digit in zip(values.tolist(), chances, digits, strict=True):
        with (
            mock.patch("numpy.random.rand", lambda count, chance=chance: chance[:count]),
            mock.patch("numpy.random.randint", lambda low, high, count, digit=digit: digit[:count]),
        ):
            stored.append(int(integer(value)))
    integer.set_dynamic_noise(0)
    return {"values": values, "is_replaced": chances < 0.4, "new_digits": digits, "stored": np.array(stored)}


def _run(module: Any, program: str, count: int, width: int) -> tuple[list[int], list[int]]:
    """Return the operands as in the prompt, and the numbers of the last line."""
    operands = [*module.sample_terms(width, width, count, "len", 1)[0]]
    sample = module.chain_of_thought_template(program, lambda text: text, *operands)
    prompt, answer = (text.replace(" ", "") for text in (sample["prompt"], sample["response"].splitlines()[-1]))
    return [int(digits) for digits in re.findall(r"\d+", prompt)], [
        int(digits) for digits in re.findall(r"\d+", answer)
    ]


def _answers(module: Any) -> dict[str, Any]:
    """Return operands and answers without noise, by program."""
    torch.manual_seed(0)
    module.TInt.set_dynamic_noise(0)
    # Longer traces would be cut, and get the answer 0.
    limit, module.trace_line_limit = module.trace_line_limit, 10**6
    arrays: dict[str, Any] = {}
    for program, count in (("add", 2), ("sub", 2), ("mul", 2), ("gcd", 2), ("median", 5), ("median", 4)):
        runs = [_run(module, program, count, 2) for _ in range(20)]
        arrays[f"{program}_{count}"] = np.array([[*operands, *answer] for operands, answer in runs])
    module.trace_line_limit = limit
    # The published program cannot write the list of a sorted answer; its function is called instead.
    lists = [[*module.sample_terms(2, 2, 5, "len", 1)[0]] for _ in range(20)]
    arrays["sort_5"] = np.array([[*map(int, numbers), *map(int, module.sort_ints(list(numbers)))] for numbers in lists])
    return arrays


def _rates(module: Any) -> dict[str, Any]:
    """Return the shares of answers that are incorrect for the operands of the prompt."""
    torch.manual_seed(0)
    # The authors draw from the global generator.
    np.random.seed(0)  # noqa: NPY002
    arrays: dict[str, Any] = {}
    for (program, count, width), intensities in RATES.items():
        shares = []
        for intensity in intensities:
            module.TInt.set_dynamic_noise(intensity)
            runs = [_run(module, program, count, width) for _ in range(PROBLEMS)]
            correct = [sum(operands) if program == "add" else int(np.median(operands)) for operands, _ in runs]
            shares.append(np.mean([answer != [right] for (_, answer), right in zip(runs, correct, strict=True)]))
        arrays[f"incorrect_{program}_{width}"] = np.array(shares)
    module.TInt.set_dynamic_noise(0)
    return arrays
