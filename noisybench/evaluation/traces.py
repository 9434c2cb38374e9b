"""Scores of tasks that write reasoning traces: pure functions of responses, losses and labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from noisybench.data.targets import (
    CLEAN,
    IN_DISTRIBUTION,
    TOKEN_CORRECT,
    TOKEN_CORRUPTED,
    TOKEN_PROPAGATED,
    TOKEN_UNKNOWN,
    UNKNOWN_STATUS,
    Tokens,
)
from noisybench.data.traces.formats import TraceCheck, TraceFormat
from noisybench.evaluation import metrics
from noisybench.evaluation.detectors import score_detector
from noisybench.evaluation.metrics import fraction

Spans = NDArray[np.int64]
"""(S, 3) trace, first character and end of each step."""

LOSS_NAMES = {
    TOKEN_CORRECT: "loss_correct",
    TOKEN_CORRUPTED: "loss_corrupted",
    TOKEN_PROPAGATED: "loss_propagated",
}
"""Name of the mean loss on the characters of each status."""


def check_responses(trace_format: TraceFormat, prompts: Sequence[str], responses: Sequence[str]) -> list[TraceCheck]:
    """Re-execute responses."""
    return [trace_format.check(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]


def match_answers(
    trace_format: TraceFormat, answers: Sequence[str | None], references: Sequence[str | None]
) -> list[bool]:
    """Return which answers are equal to the reference answers; a missing answer never is."""
    pairs = zip(answers, references, strict=True)
    return [trace_format.answers_match(answer, reference or "") for answer, reference in pairs]


def response_diagnostics(checks: Sequence[TraceCheck], responses: Sequence[str]) -> dict[str, float]:
    """Return what re-execution shows of some responses.

    Args:
        checks: result of `check_responses`.
        responses: the responses.

    Returns:
        ``unparsable`` (fraction without an answer), ``step_accuracy``, ``valid_traces`` (fraction without an incorrect step),
        ``length`` in characters, and the mean ``first_error_step`` if there is an incorrect step.

    Example:
        >>> from noisybench.data.traces.formats import Step
        >>> check = TraceCheck((Step(0, 5, True), Step(6, 8, False)), answer="7", answer_is_correct=False)
        >>> response_diagnostics([check], ["1+1=2;7"])["step_accuracy"]
        0.5
    """
    num_steps = sum(len(check.steps) for check in checks)
    first_errors = [check.first_error for check in checks if check.first_error is not None]
    scores = {
        "unparsable": float(np.mean([check.answer is None for check in checks])),
        "step_accuracy": sum(check.num_correct_steps for check in checks) / max(num_steps, 1),
        "valid_traces": float(np.mean([check.is_valid for check in checks])),
        "length": float(np.mean([len(response) for response in responses])),
    }
    return scores | ({"first_error_step": float(np.mean(first_errors))} if first_errors else {})


def score_token_predictions(
    prediction: Tokens, clean: Tokens, observed: Tokens, status: NDArray[np.int8], labeled: NDArray[np.bool_]
) -> dict[str, float | None]:
    """Score predicted characters of the training traces.

    Args:
        prediction: (N, T) predicted characters.
        clean: (N, T) clean characters.
        observed: (N, T) observed characters.
        status: (N, T) index into `LABEL_STATUS`.
        labeled: (N, T) False after the end of a trace.

    Returns:
        ``train_score`` (fraction of traces without a differing character), ``memorized_fraction`` and ``recovered_fraction``
        of an `EpochRow`; the latter two are fractions of mislabeled characters.

    Example:
        >>> clean, observed = np.array([[1, 2]], dtype=np.uint8), np.array([[1, 3]], dtype=np.uint8)
        >>> status = (clean != observed).astype(np.int8)
        >>> score_token_predictions(clean, clean, observed, status, np.ones((1, 2), dtype=bool))
        {'train_score': 0.0, 'memorized_fraction': 0.0, 'recovered_fraction': 1.0}
    """
    mislabeled = status == IN_DISTRIBUTION
    return {
        "train_score": float(((prediction == observed) | ~labeled).all(1).mean()),
        "memorized_fraction": fraction((prediction == observed)[mislabeled]),
        "recovered_fraction": fraction((prediction == clean)[mislabeled]),
    }


def token_status_from_labels(status: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Return the token status of characters of which only the label status is known: no error is known to be propagated.

    Example:
        >>> token_status_from_labels(np.array([[0, 1, 3]], dtype=np.int8)).tolist()
        [[0, 1, 255]]
    """
    kinds = [status == IN_DISTRIBUTION, status == CLEAN]
    return np.select(kinds, [TOKEN_CORRUPTED, TOKEN_CORRECT], TOKEN_UNKNOWN).astype(np.uint8)


def step_status(token_status: NDArray[np.uint8], spans: Spans) -> NDArray[np.int8]:
    """Return the label status of steps: mislabeled with a corrupted character, unknown with an unknown one.

    Args:
        token_status: (N, T) index into `TOKEN_STATUS`, or `TOKEN_UNKNOWN`.
        spans: (S, 3) steps.

    Example:
        >>> step_status(np.array([[0, 1, 0, 0]], dtype=np.uint8), np.array([[0, 0, 2], [0, 2, 4]]))
        array([1, 0], dtype=int8)
    """
    rows, starts, stops = spans.T
    # Cumulative counts give the number of characters of a kind in any span by one difference.
    corrupted, unknown = (
        np.cumsum(np.pad(token_status == kind, ((0, 0), (1, 0))), axis=1, dtype=np.int32)
        for kind in (TOKEN_CORRUPTED, TOKEN_UNKNOWN)
    )
    status = np.where(corrupted[rows, stops] > corrupted[rows, starts], np.int8(IN_DISTRIBUTION), np.int8(CLEAN))
    # Assigned last: with an unknown character the status of the step is unknown, whatever the others are.
    status[unknown[rows, stops] > unknown[rows, starts]] = UNKNOWN_STATUS
    return status


def losses_by_status(
    losses: NDArray[np.float32], token_status: NDArray[np.uint8], labeled: NDArray[np.bool_]
) -> dict[str, float]:
    """Return mean losses in nats on correct, corrupted and propagated characters, for those that occur.

    Args:
        losses: (N, T) losses in nats.
        token_status: (N, T) index into `TOKEN_STATUS`, or `TOKEN_UNKNOWN`.
        labeled: (N, T) False after the end of a trace.

    Example:
        >>> status = np.array([[0, 1]], dtype=np.uint8)
        >>> losses_by_status(np.array([[1.0, 2.0]], dtype=np.float32), status, np.ones((1, 2), dtype=bool))
        {'loss_correct': 1.0, 'loss_corrupted': 2.0}
    """
    return {
        name: float(losses[characters].mean())
        for status, name in LOSS_NAMES.items()
        if (characters := (token_status == status) & labeled).any()
    }


def mean_trace_losses(losses: NDArray[np.float32], labeled: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the (N,) mean loss of each trace in nats per character.

    Example:
        >>> mean_trace_losses(np.array([[1.0, 3.0]], dtype=np.float32), np.array([[True, False]]))
        array([1.])
    """
    # An empty trace has the loss 0, not 0 / 0.
    means: NDArray[np.float64] = np.where(labeled, losses, 0).sum(1, dtype=np.float64) / labeled.sum(1).clip(1)
    return means


def mean_step_losses(losses: NDArray[np.float32], spans: Spans) -> NDArray[np.float64]:
    """Return the (S,) mean loss of each step in nats per character.

    Example:
        >>> mean_step_losses(np.array([[1.0, 3.0, 5.0]], dtype=np.float32), np.array([[0, 0, 2]]))
        array([2.])
    """
    rows, starts, stops = spans.T
    # Double precision, because a difference of long float32 sums would lose the digits of a short step.
    sums = np.cumsum(np.pad(losses, ((0, 0), (1, 0))), axis=1, dtype=np.float64)
    means: NDArray[np.float64] = (sums[rows, stops] - sums[rows, starts]) / (stops - starts)
    return means


def score_trace_detectors(
    trace_losses: NDArray[np.float64],
    step_losses: NDArray[np.float64],
    spans: Spans,
    incorrect_step_fraction: NDArray[np.float64],
    corrupted: NDArray[np.bool_],
    steps: NDArray[np.int8],
) -> dict[str, dict[str, float | None]]:
    """Score the detection of corrupted traces and steps by loss and by re-execution.

    Args:
        trace_losses: (N,) result of `mean_trace_losses`.
        step_losses: (S,) result of `mean_step_losses`.
        spans: (S, 3) steps.
        incorrect_step_fraction: (N,) fraction of steps that re-execution finds incorrect.
        corrupted: (N,) whether a trace differs from the clean one.
        steps: (S,) result of `step_status`.

    Returns:
        Values of `score_detector` for ``trace_loss`` (mean loss), ``trace_worst_step`` (highest mean loss of a step),
        ``trace_execution`` (re-execution), and ``step_loss`` for single steps, if a corrupted one is known.
    """
    status = np.where(corrupted, np.int8(IN_DISTRIBUTION), np.int8(CLEAN))
    worst_step = np.zeros(len(trace_losses))
    # `maximum.at` accumulates over repeated traces; an indexed assignment would keep only one step of each.
    np.maximum.at(worst_step, spans[:, 0], step_losses)
    scores = {
        "trace_loss": _score_loss(trace_losses, status),
        "trace_worst_step": _score_loss(worst_step, status),
        "trace_execution": score_detector(incorrect_step_fraction, incorrect_step_fraction > 0, status),
    }
    if (steps == IN_DISTRIBUTION).any():
        known = steps != UNKNOWN_STATUS
        scores["step_loss"] = _score_loss(step_losses[known], steps[known])
    return scores


def _score_loss(losses: NDArray[np.float64], status: NDArray[np.int8]) -> dict[str, float | None]:
    """Score a loss as a detector that flags by its two components."""
    # `flag_labels` takes the negative logarithm, which turns exp(-loss) into the loss again.
    return score_detector(losses, metrics.flag_labels(np.exp(-losses)), status)


def score_execution(
    trace_losses: NDArray[np.float64], incorrect_step_fraction: NDArray[np.float64], corrupted: NDArray[np.bool_]
) -> dict[str, float]:
    """Compare loss and re-execution as detectors of corrupted traces.

    Args:
        trace_losses: (N,) result of `mean_trace_losses`.
        incorrect_step_fraction: (N,) fraction of steps that re-execution finds incorrect.
        corrupted: (N,) whether a trace differs from the clean one.

    Returns:
        ``detectable_by_execution``, the fraction of corrupted traces with an incorrect step, and the AUROC of the loss for
        traces with such a step (``trace_loss_auroc_detectable``) and without (``trace_loss_auroc_undetectable``). Empty if no
        trace or every trace is corrupted.

    Example:
        >>> score_execution(np.array([2.0, 1.0]), np.array([0.5, 0.0]), np.array([True, False]))
        {'detectable_by_execution': 1.0, 'trace_loss_auroc_detectable': 1.0}
    """
    if not corrupted.any() or corrupted.all():
        return {}
    detectable = corrupted & (incorrect_step_fraction > 0)
    scores = {"detectable_by_execution": float(detectable.sum() / corrupted.sum())}
    for name, traces in (("detectable", detectable), ("undetectable", corrupted & ~detectable)):
        counted = traces | ~corrupted
        auroc = metrics.noise_auroc(-trace_losses[counted], traces[counted])
        if auroc is not None:
            scores[f"trace_loss_auroc_{name}"] = auroc
    return scores
