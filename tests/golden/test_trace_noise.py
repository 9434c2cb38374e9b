"""Noise in traces against the authors' code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from noisybench.data.traces.builtin_programs import PROGRAMS
from noisybench.data.traces.gsm8k_calculations import CalculationTraceFormat
from noisybench.data.traces.program_format import ProgramTraceFormat
from noisybench.data.traces.recorder import NonTerminating, TraceRecorder
from noisybench.noise_models.cot_static import CotStatic
from tests.golden.vectors import load_golden


def test_a_noisy_integer_is_stored_as_by_the_authors() -> None:
    golden = load_golden("cot_dynamic")
    for value, is_replaced, new, stored in zip(
        *(golden[name].tolist() for name in ("values", "is_replaced", "new_digits", "stored")), strict=True
    ):
        digits = len(str(value))
        positions = [place for place in range(digits) if is_replaced[place]]
        recorder = TraceRecorder(positions, [new[place] for place in positions], 10)
        assert recorder.integer(value) == stored


@pytest.mark.parametrize("key", ["add_2", "sub_2", "mul_2", "gcd_2", "median_5", "median_4", "sort_5"])
def test_clean_answers_are_the_authors(key: str) -> None:
    name, _, count = key.partition("_")
    program = PROGRAMS[name](width=2, count=int(count))
    trace_format = ProgramTraceFormat(program)
    for numbers in load_golden("cot_dynamic")[key].tolist():
        operands, answer = numbers[: int(count)], numbers[int(count) :]
        assert trace_format.answers_match(
            trace_format.correct_answer(program.prompt(operands)), ",".join(map(str, answer))
        )


INCORRECT = {("add", 2, 2): (0.45, 0.73, 0.92), ("add", 2, 5): (0.77, 0.95, 1.0), ("median", 5, 2): (0.31, 0.76, 0.96)}
"""Shares of incorrect answers, by program, number of operands and width, as the card of `cot_dynamic` has them."""


@pytest.mark.parametrize("setting", INCORRECT)
def test_the_strength_of_dynamic_noise_is_that_of_the_card(setting: tuple[str, int, int]) -> None:
    name, count, width = setting
    program, rng = PROGRAMS[name](width=width, count=count), np.random.default_rng(0)
    reference = load_golden("cot_dynamic")[f"incorrect_{name}_{width}"]
    intensities = (0.05, 0.2, 0.4) if name == "median" else (0.05, 0.1, 0.2)
    for intensity, stated, authors in zip(intensities, INCORRECT[setting], reference, strict=True):
        incorrect = np.mean([_is_incorrect(program, intensity, rng) for _ in range(400)])
        # Four standard errors of 400 answers, and the rounding of the card.
        assert abs(incorrect - stated) <= 4 * np.sqrt(max(stated * (1 - stated), 0.01) / 400) + 0.005
        # Add is weaker than the authors' by up to a fifth, and median is two to four times as strong.
        assert -0.25 <= incorrect - authors <= 0 if name == "add" else 0.15 <= incorrect - authors <= 0.55


def _is_incorrect(program: Any, intensity: float, rng: np.random.Generator) -> bool:
    operands = rng.integers(10 ** (program.width - 1), 10**program.width, program.count).tolist()
    positions = np.flatnonzero(rng.random(300) < intensity).tolist()
    recorder = TraceRecorder(positions, rng.integers(0, 10, len(positions)).tolist(), 300)
    try:
        answer = program.trace(operands, recorder)[1]
    except NonTerminating:
        return True
    return int(answer) != int(program.trace(operands, TraceRecorder())[1])


def _text(points: Any) -> str:
    """Return a frozen trace; `####` precedes its last line, as in this format."""
    lines = "".join(map(chr, points)).rstrip("\0").split("\n")
    return "\n".join(lines[:-1]) + f"\n#### {lines[-1]}\x03"


@pytest.mark.parametrize("kind", ["digit", "line"])
def test_static_noise_is_the_authors(kind: Any) -> None:
    golden = load_golden("cot_static")
    clean, noise = _text(golden["trace"]), CotStatic(edit=kind)
    trace_format = CalculationTraceFormat("".join(sorted({*clean, *"0123456789#"})))
    tokens = trace_format.encode([clean], len(clean))
    for draw, noisy in enumerate(golden[kind]):
        is_edited, uniform = np.zeros(tokens.shape, dtype=bool), np.zeros(tokens.shape)
        if kind == "digit":
            places = [place for place, character in enumerate(clean) if character.isdigit()]
            is_edited[0, places] = golden["is_replaced"][draw]
            uniform[0, places] = (golden["new_digits"][draw] + 0.5) / 10
            edited = trace_format.decode(noise._replace_characters(trace_format, tokens, is_edited, uniform))[0]
        else:
            is_deleted = golden["is_deleted"][draw].tolist()
            edited = "".join(
                piece for piece, _ in noise._edit_lines(trace_format, clean, is_deleted, bytes(len(clean)))
            )
        assert edited == _text(noisy)
