"""Detection of corrupted traces."""

from __future__ import annotations

import numpy as np

from noisybench.data.traces.formats import TraceCheck
from noisybench.evaluation.traces import response_diagnostics, score_trace_detectors


def test_re_execution_flags_exactly_the_traces_with_an_incorrect_step() -> None:
    spans = np.array([[0, 0, 1], [1, 0, 1], [2, 0, 1], [2, 1, 2]])
    scores = score_trace_detectors(
        trace_losses=np.array([0.1, 0.2, 0.9]),
        step_losses=np.array([0.1, 0.2, 0.3, 1.5]),
        spans=spans,
        incorrect_step_fraction=np.array([0.0, 0.0, 0.5]),
        corrupted=np.array([False, True, True]),
        steps=np.array([0, 1, 0, 1], dtype=np.int8),
    )
    assert (scores["trace_execution"]["precision"], scores["trace_execution"]["recall"]) == (1.0, 0.5)
    assert scores["trace_worst_step"]["noise_auroc"] == 1.0
    assert scores["step_loss"]["noise_auroc"] == 0.75


def test_responses_without_steps_have_no_correct_step() -> None:
    checks = [TraceCheck((), answer=None, answer_is_correct=False), TraceCheck((), answer="7", answer_is_correct=True)]
    scores = response_diagnostics(checks, ["", "7"])
    assert scores == {"unparsable": 0.5, "step_accuracy": 0.0, "valid_traces": 1.0, "length": 0.5}
