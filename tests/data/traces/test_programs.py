"""Programs, their traces, and checks by re-execution."""

from __future__ import annotations

import itertools
import math
import re
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisybench.data.traces.builtin_programs import PROGRAMS
from noisybench.data.traces.recorder import NonTerminating, TraceRecorder, TraceReplayer
from noisybench.errors import UserError
from tests.data.traces.helpers import (
    build_noise,
    decode_prompts,
    load_traces,
    program_format,
    trace_format_of,
)

ANSWERS = {
    "add": sum,
    "sub": lambda each: max(each) - min(each),
    "mul": math.prod,
    "gcd": lambda each: math.gcd(*each),
    "max": max,
    "sum": sum,
    "product": math.prod,
    "mod": lambda each: each[0] if len(each) == 1 else sum(each) % 10,
    "sort": sorted,
    "median": lambda each: math.floor(statistics.median(each)),
}


def test_every_program_has_a_reference_answer() -> None:
    assert set(PROGRAMS) - {"composed"} == set(ANSWERS)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "gcd"])
def test_programs_on_two_numbers_agree_with_python(name: str) -> None:
    trace_format = program_format(name)
    for pair in itertools.product(range(0, 100, 3), range(100)):
        operands = trace_format.program.arrange(pair)
        prompt = trace_format.program.prompt(operands)
        response = trace_format.rerun(prompt, "", TraceRecorder())
        check = trace_format.check(prompt, response)
        assert int(check.answer or "") == ANSWERS[name](pair)
        assert check.is_valid
        assert check.answer_is_correct


@given(
    st.lists(st.integers(0, 99), min_size=2, max_size=9),
    st.sampled_from(["max", "sum", "product", "mod", "sort", "median"]),
)
@settings(max_examples=200, deadline=None)
def test_programs_on_lists_agree_with_python(operands: list[int], name: str) -> None:
    trace_format = program_format(name, count=len(operands))
    prompt = trace_format.program.prompt(operands)
    check = trace_format.check(prompt, trace_format.rerun(prompt, "", TraceRecorder()))
    expected = ANSWERS[name](operands)
    assert check.answer == (",".join(map(str, expected)) if name == "sort" else str(expected))
    assert check.is_valid
    assert trace_format.program.parse_prompt(prompt)[1] == operands


def test_composed_functions_match_a_hand_computed_trace() -> None:
    trace_format = program_format("composed", count=4)
    assert trace_format.rerun("47+05*12-30:", "", TraceRecorder()) == "47;52;24;6#6$"
    assert trace_format.program.prompt([47, 5, 12, 30]) == "47+05*12-30:"


def test_addition_matches_a_hand_computed_trace() -> None:
    assert program_format("add").rerun("47+05:", "", TraceRecorder()) == "7+5+0=12;4+0+1=05#052$"
    assert program_format("add").rerun("147+005:", "", TraceRecorder()) == "7+5+0=12;4+0+1=05;1+0+0=01#0152$", (
        "other widths run as well"
    )


@pytest.mark.parametrize(
    ("response", "right", "steps"),
    [
        ("7+5+0=12;4+0+1=05#052$", True, (3, 3)),
        ("7+5+0=12;4+0+1=05#52$", True, (3, 3)),
        ("7+5+0=13;4+0+1=05#052$", True, (3, 1)),
        ("7+5+0=12;4+0+1=05#053$", False, (3, 2)),
        ("7+5+0=12;4+0+1=05# 0 5 2 $", True, (3, 3)),
        ("4+0+1=05#052$", True, (2, 0)),
        ("7+5+0=12;4+0+1=05#$", False, (3, 2)),
        ("7+5+0=12;4+0+1=05", False, (3, 2)),
        ("7+5+0=12;4+0+1=05;1+1+1=03#052$", True, (4, 2)),
        ("", False, (1, 0)),
        (";;##==$", False, (4, 0)),
        ("#+$", False, (1, 0)),
    ],
)
def test_checks_match_hand_labeled_responses(response: str, right: bool, steps: tuple[int, int]) -> None:
    found = program_format("add").check("47+05:", response)
    assert (found.answer_is_correct, len(found.steps), found.num_correct_steps) == (right, *steps)
    assert (found.first_error is None) == found.is_valid


@given(st.text(alphabet="0123456789+=;#$,*-%", max_size=40), st.sampled_from(sorted(PROGRAMS)))
@settings(max_examples=300, deadline=None)
def test_any_response_can_be_checked(response: str, name: str) -> None:
    trace_format = program_format(name, count=3)
    prompt = trace_format.program.prompt(trace_format.program.arrange([3, 9, 4][: trace_format.program.count]))
    found = trace_format.check(prompt, response)
    assert 0 <= found.num_correct_steps <= len(found.steps)
    assert all(0 <= each.start <= each.stop <= len(response) for each in found.steps)
    trace_format.recompute_answer(prompt, response)


@given(st.lists(st.text(alphabet="0123456789+=;#", max_size=30), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_decoding_inverts_encoding(texts: list[str]) -> None:
    trace_format = program_format("add")
    ended = [text + "$" for text in texts]
    assert trace_format.decode(trace_format.encode(ended, 40)) == ended
    assert trace_format.decode(trace_format.encode(ended, 40, left=True)) == ended
    with pytest.raises(UserError, match="characters, but the limit is 3"):
        trace_format.encode([*ended, "12345"], 3)
    with pytest.raises(UserError, match="trace 1 has the character 'ä', which is not in the vocabulary"):
        trace_format.encode(["1", "ä"], 3)


def test_recorder_replaces_the_given_digits() -> None:
    recorder = TraceRecorder([1, 3, 5], [8, 6, 3], 6)
    assert [recorder.integer(each) for each in (47, 0, -5, 12, -9)] == [48, 0, -5, 62, -3]
    assert recorder.num_changed == 3
    with pytest.raises(NonTerminating):
        recorder.integer(1)


@pytest.mark.parametrize("name", PROGRAMS)
def test_recorded_runs_are_reproducible(name: str) -> None:
    """The same wrong digits give the same run; without a wrong digit it is the clean one."""
    rng = np.random.default_rng(0)
    trace_format, differing = program_format(name, count=4), 0
    for _ in range(60):
        operands = trace_format.program.arrange(rng.integers(0, 100, trace_format.program.count).tolist())
        prompt = trace_format.program.prompt(operands)
        clean = trace_format.rerun(prompt, "", TraceRecorder())
        places = np.flatnonzero(rng.random(2000) < 0.2).tolist()
        digits = rng.integers(0, 10, len(places)).tolist()
        recorder = TraceRecorder(places, digits, 2000)
        text = trace_format.rerun(prompt, "", recorder)
        again = trace_format.rerun(prompt, "", TraceRecorder(places, digits, 2000))
        assert text == again, "the same wrong digits give the same trace"
        if not recorder.num_changed:
            assert text == clean
        differing += text != clean
    assert differing > 30


def test_later_integers_are_computed_from_corrupted_ones() -> None:
    class PairRecorder(TraceRecorder):
        """Recorder that keeps every integer with its stored value."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.pairs: list[tuple[int, int]] = []

        def integer(self, value: int) -> int:
            stored = super().integer(value)
            self.pairs.append((value, stored))
            return stored

    rng, trace_format = np.random.default_rng(0), program_format("max", 1, 6)
    for _ in range(300):
        operands = rng.integers(0, 10, 6).tolist()
        places = np.flatnonzero(rng.random(200) < 0.3).tolist()
        recorder = PairRecorder(places, rng.integers(0, 10, len(places)).tolist(), 200)
        text = trace_format.rerun(trace_format.program.prompt(operands), "", recorder)
        stored = [recorder.pairs[0][1]]
        for place in range(5):
            read, combined = recorder.pairs[1 + 2 * place], recorder.pairs[2 + 2 * place]
            assert read[0] == operands[place + 1], "operands of the prompt stay"
            assert combined[0] == max(stored[-1], read[1]), "exact result of the stored operands"
            stored.append(combined[1])
        assert text.partition("#")[0] == ";".join(map(str, stored))


def test_replay_continues_from_the_written_values() -> None:
    replayer = TraceReplayer(["4", "9", "9"])
    assert PROGRAMS["max"](1, 3).run(replayer, [4, 7, 2]) == "9"
    assert (replayer.line_checks, replayer.is_complete) == ([True, False, True], True)


DOCUMENTATION = (Path(__file__).parents[3] / "docs" / "own-traces.md").read_text()

CUSTOM_PROGRAMS = (
    re.findall(r"```python\n(.*?)```", DOCUMENTATION, re.S)[0]
    + """

class Raises(Program):
    def run(self, recorder, operands):
        return str(100 // operands[0])

class Loops(Program):
    def run(self, recorder, operands):
        while operands[0] >= 0:
            pass

class Wrong(Program):
    def run(self, recorder, operands):
        return 5
"""
)


def test_custom_programs_are_traced_corrupted_and_checked(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CUSTOM_PROGRAMS)
    dataset = load_traces(
        program=f"{tmp_path / 'mine.py'}:Collatz", train_problems=60, validation_problems=10, test_problems=10
    )
    trace_format = trace_format_of(dataset)
    assert trace_format.rerun("collatz06:", "", TraceRecorder()) == "3;10;5;16;8;4;2;1#8$"
    assert all(
        trace_format.check(*pair).is_valid
        for pair in zip(decode_prompts(dataset), trace_format.decode(dataset.train.targets), strict=True)
    )
    noisy = build_noise("cot_dynamic", intensity=0.3).apply(dataset)
    assert noisy.manifest["noise"]["details"]["traces"]["incorrect_answer"] > 0.3
    for name, message in {
        "Raises": "ZeroDivisionError",
        "Loops": "does not seem to terminate",
        "Wrong": "must return the answer as a string",
        "Nothing": "has no class `Nothing`",
    }.items():
        with pytest.raises(UserError, match=message):
            load_traces(
                program=f"{tmp_path / 'mine.py'}:{name}",
                count=2,
                train_problems=9900,
                test_problems=60,
                validation_problems=1,
            )
    for name, message in {"sun": "did you mean `sum`", "gone.py:X": "file not found"}.items():
        with pytest.raises(UserError, match=message):
            load_traces(program=name)
