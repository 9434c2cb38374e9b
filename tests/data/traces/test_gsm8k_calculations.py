"""Traces with annotated calculations."""

from __future__ import annotations

import pytest

from noisybench.data.traces.gsm8k_calculations import CalculationTraceFormat, evaluate_expression
from noisybench.data.traces.recorder import TraceRecorder

SOLVED = "He has 48/2 = <<48/2=24>>24 pens in May.\nThat is 48+24 = <<48+24=72>> 72 in all.\n#### 72\x03"


def calculations() -> CalculationTraceFormat:
    return CalculationTraceFormat("".join(sorted(set(SOLVED) | set("0123456789$,.A:-%()x*"))))


def test_annotated_calculations_are_re_executed() -> None:
    trace_format = calculations()
    assert trace_format.check("", SOLVED).is_valid
    assert trace_format.check("", SOLVED).answer == "72"
    for wrong, steps in (
        ("48/2=24", [True, True, True]),
        ("48/2=25", [False, True, True]),
        ("48+24=73", [True, False, True]),
    ):
        changed = SOLVED.replace("48/2=24", wrong) if wrong.startswith("48/") else SOLVED.replace("48+24=72", wrong)
        assert [each.is_correct for each in trace_format.check("", changed).steps] == steps
    assert [each.is_correct for each in trace_format.check("", SOLVED.replace("#### 72", "#### 71")).steps] == [
        True,
        True,
        False,
    ]
    assert not trace_format.check("", SOLVED.replace(">> 72", ">> 70")).is_valid, "what is repeated must be the result"
    assert trace_format.answers_match("1000", "1,000")


@pytest.mark.parametrize(
    ("expression", "value"),
    [("2*(3+4)", 14), ("10/4", 2.5), ("-3+1", -2), ("50%*8", 4), ("1,000-1", 999), ("3 x 4", 12), ("05+1", 6), ("2**9", None),
     ("180//3", 60), ("7//2+1", 4), ("-7//2", -4), ("7.5//2", 3), ("1//0", None),
     ("1/0", None), ("a+1", None), ("(" * 90 + "1", None), ("9" * 300, None)],
)  # fmt: skip
def test_expressions_are_evaluated_exactly(expression: str, value: float | None) -> None:
    found = evaluate_expression(expression)
    assert found == value if value is None else float(found or 0) == value


def test_corrupted_results_propagate_through_a_word_problem() -> None:
    trace_format = calculations()
    assert trace_format.rerun("", SOLVED, TraceRecorder([], [], 99)) == SOLVED
    found = trace_format.rerun("", SOLVED, TraceRecorder([1], [7], 99))
    assert found == "He has 48/2 = <<48/2=27>>27 pens in May.\nThat is 48+27 = <<48+27=75>> 75 in all.\n#### 75\x03"
    assert [each.is_correct for each in trace_format.check("", found).steps] == [False, True, True]
