"""Scores of traces and steps: re-execution, agreement of answers and surprise, joined into one ranking."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from noisybench.audit.findings import REVIEW_FRACTION, unit_ranks
from noisybench.audit.traces.steps import TraceSteps

if TYPE_CHECKING:
    from noisybench.audit.traces.decoders import CharacterSurprise

SURPRISING = 3.0
"""Standard deviations of surprise from which on a step is named as a reason."""


@dataclass(frozen=True)
class TraceScores:
    """Scores of N traces and their S steps, higher where they are more likely incorrect.

    Attributes:
        suspicion: (N,) score in [0, 1], from 0.5 where re-execution or a known answer contradicts the trace.
        surprise: (N,) surprise of the most surprising step in standard deviations; NaN without an estimate.
        disagreement: (N,) share of the other responses to the same prompt with another answer; NaN if there are no others.
        contradicted: (N,) True if a step fails, or if the known answer is another one.
        step_suspicion: (S,) score in [0, 1], from 0.5 where re-execution contradicts the step.
        step_surprise: (S,) surprise in standard deviations; NaN without an estimate.
        num_incorrect: smallest number of incorrect traces, if each prompt has one correct answer.
    """

    suspicion: NDArray[np.float64]
    surprise: NDArray[np.float64]
    disagreement: NDArray[np.float64]
    contradicted: NDArray[np.bool_]
    step_suspicion: NDArray[np.float64]
    step_surprise: NDArray[np.float64]
    num_incorrect: int

    @property
    def ranking(self) -> NDArray[np.int64]:
        """(N,) positions from the most to the least suspicious trace."""
        return np.argsort(-self.suspicion, kind="stable")

    @property
    def suspects(self) -> NDArray[np.int64]:
        """Positions of the traces to review, the most suspicious first: `num_incorrect`, and at least `REVIEW_FRACTION`."""
        return self.ranking[: max(self.num_incorrect, math.ceil(REVIEW_FRACTION * len(self.suspicion)))]


def score_traces(steps: TraceSteps, groups: NDArray[np.int64], surprise: CharacterSurprise | None) -> TraceScores:
    """Join what is known about each trace into one score.

    Traces that are contradicted come first; within both parts, traces are ordered by the mean rank of surprise and
    disagreement, as far as a trace has them.

    Args:
        steps: steps of the traces, re-executed.
        groups: (N,) position of the first trace with the same prompt.
        surprise: surprise of the decoders; None if they are at chance.

    Example:
        >>> from noisybench.data.traces.gsm8k_calculations import CalculationTraceFormat
        >>> from noisybench.audit.traces.steps import find_steps
        >>> responses = ["1+1 = <<1+1=2>>2\\n#### 2\\x03", "1+1 = <<1+1=3>>3\\n#### 3\\x03", "Two.\\n#### 2\\x03"]
        >>> trace_format = CalculationTraceFormat("".join(sorted(set("".join(responses)))))
        >>> scores = score_traces(find_steps(trace_format, ["1+1?"] * 3, responses), np.zeros(3, int), None)
        >>> scores.disagreement, scores.ranking[0], scores.num_incorrect
        (array([0.5, 1. , 0.5]), np.int64(1), 1)
    """
    size = len(steps.answers)
    step_surprise = np.full(len(steps.trace), np.nan)
    if surprise is not None:
        step_surprise = surprise.of_spans(steps.trace, steps.start, steps.stop)
    of_trace = np.full(size, -np.inf)
    np.fmax.at(of_trace, steps.trace, step_surprise)
    of_trace[np.isneginf(of_trace)] = np.nan
    disagreement = disagreement_of(steps.answers, groups)
    contradicted = (steps.num_failed > 0) | (steps.answer_is_incorrect == 1)
    ranks = np.stack([_ranks(of_trace), _ranks(disagreement)])
    return TraceScores(
        (contradicted + _mean(ranks)) / 2,
        of_trace,
        disagreement,
        contradicted,
        ((steps.failed == 1) + _mean(_ranks(step_surprise)[None])) / 2,
        step_surprise,
        _smallest_number(steps.answers, groups, contradicted),
    )


def disagreement_of(answers: tuple[str | None, ...], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the (N,) share of the other responses to the same prompt that have another answer; NaN without others.

    A response without an answer disagrees with all.
    """
    sizes, counts = Counter(groups.tolist()), Counter(zip(groups.tolist(), answers, strict=True))
    others = np.array([sizes[group] - 1 for group in groups.tolist()], dtype=np.float64)
    same = [
        counts[group, answer] - 1 if answer is not None else 0
        for group, answer in zip(groups.tolist(), answers, strict=True)
    ]
    shares = np.full(len(others), np.nan)
    np.divide(others - same, others, out=shares, where=others > 0)
    return shares


def _smallest_number(
    answers: tuple[str | None, ...], groups: NDArray[np.int64], contradicted: NDArray[np.bool_]
) -> int:
    """Return the number of traces less, for each prompt, the most that can be correct together."""
    possible = Counter(
        (group, answer)
        for group, answer, is_contradicted in zip(groups.tolist(), answers, contradicted.tolist(), strict=True)
        if answer is not None and not is_contradicted
    )
    most: Counter[int] = Counter()
    for (group, _), count in possible.items():
        most[group] = max(most[group], count)
    return len(answers) - most.total()


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks in [0, 1] among the values that are not NaN."""
    known = ~np.isnan(values)
    ranks = np.full(len(values), np.nan)
    ranks[known] = unit_ranks(values[known])
    return ranks


def _mean(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the first axis without NaN; 0.5 where all are NaN, since nothing is known."""
    known = ~np.isnan(ranks)
    means = np.where(known, ranks, 0).sum(0) / known.sum(0).clip(1)
    return np.asarray(np.where(known.any(0), means, 0.5))
