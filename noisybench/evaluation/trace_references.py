"""References of trace runs: observed training traces and correct answers, with the scores of a run against them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from noisybench.data.dataset import Dataset, Split
from noisybench.data.label_sets.label_set import LabelSet
from noisybench.data.targets import UNKNOWN_STATUS
from noisybench.data.traces.formats import TraceCheck, TraceFormat
from noisybench.evaluation import traces as scores
from noisybench.evaluation.detectors import score_detection
from noisybench.records.schema import Detection

MIN_LABEL_QUALITY = 1e-6
"""Lower bound of the label quality in losses, which is stored in half precision."""


def decode_prompts(trace_format: TraceFormat, split: Split) -> list[str]:
    """Return the prompts of a split as texts."""
    return trace_format.decode(np.asarray(split.inputs[:][:, 0, 0]))


class ReferenceAnswers:
    """Prompts of a split of clean traces, and their correct answers.

    Args:
        trace_format: format of the traces.
        split: split with clean targets.

    Attributes:
        prompts: texts of the prompts.
        answers: correct answers; None where there is none.
    """

    def __init__(self, trace_format: TraceFormat, split: Split) -> None:
        self._format, self.prompts = trace_format, decode_prompts(trace_format, split)
        pairs = zip(self.prompts, trace_format.decode(split.targets), strict=True)
        self.answers = [trace_format.reference_answer(prompt, response) for prompt, response in pairs]

    def check(self, responses: Sequence[str]) -> tuple[list[TraceCheck], list[bool]]:
        """Re-execute responses to the prompts, and return which answers are correct."""
        checks = scores.check_responses(self._format, self.prompts, responses)
        return checks, scores.match_answers(self._format, [check.answer for check in checks], self.answers)


def score_validation(
    trace_format: TraceFormat, responses: Sequence[str], split: Split, labels: LabelSet
) -> dict[str, float | None]:
    """Return the fraction of validation answers that match the observed ones, and the clean ones; None without a split.

    Args:
        trace_format: format of the traces.
        responses: responses to the prompts of the validation split.
        split: validation split with clean targets.
        labels: label set with the observed validation traces.

    Returns:
        ``noisy_val_score`` and ``clean_val_score`` of an `EpochRow`.
    """
    if not len(split):
        return {"noisy_val_score": None, "clean_val_score": None}
    answers = [trace_format.extract_answer(response) for response in responses]
    observed = [trace_format.extract_answer(response) for response in trace_format.decode(labels.validation)]
    references = {"noisy_val_score": observed, "clean_val_score": ReferenceAnswers(trace_format, split).answers}
    return {
        name: float(np.mean(scores.match_answers(trace_format, answers, expected)))
        for name, expected in references.items()
    }


class ObservedTraces:
    """Observed training traces, re-executed once for all epochs, and the scores of label quality for them.

    Args:
        dataset: dataset of traces.
        labels: label set with the observed traces.

    Attributes:
        label_status: (N, T) positions in `LABEL_STATUS`.
        labeled: (N, T) False after the end of a trace.
        corrupted: (N,) whether a trace differs from the clean one.
    """

    def __init__(self, dataset: Dataset, labels: LabelSet) -> None:
        trace_format, train = dataset.trace_format, dataset.train
        assert trace_format is not None
        self.label_status = labels.label_status(train.targets)
        self.labeled = labels.target_kind.is_labeled(labels.train)
        self.corrupted: NDArray[np.bool_] = (train.targets != labels.train).any(1)
        self._has_status = self.label_status != UNKNOWN_STATUS
        spans = labels.error_spans.get("train")
        self._token_status = scores.token_status_from_labels(self.label_status) if spans is None else spans
        responses = trace_format.decode(labels.train)
        checks = scores.check_responses(trace_format, decode_prompts(trace_format, train), responses)
        self._incorrect_step_fraction = np.array([1 - check.num_correct_steps / len(check.steps) for check in checks])
        steps = [(row, step.start, step.stop) for row, check in enumerate(checks) for step in check.steps]
        # Empty steps have no mean loss.
        self._spans = np.array([span for span in steps if span[2] > span[1]], dtype=np.int64).reshape(-1, 3)
        self._step_status = scores.step_status(self._token_status, self._spans)

    def detection(self, label_quality: NDArray[np.float32]) -> Detection:
        """Score the detection of incorrect characters by their (N, T) label quality."""
        return score_detection(label_quality[self._has_status], self.label_status[self._has_status])

    def detectors(self, label_quality: NDArray[np.float32]) -> dict[str, dict[str, float | None]]:
        """Score the detection of corrupted traces and steps by loss and by re-execution."""
        losses = _losses(label_quality)
        return scores.score_trace_detectors(
            scores.mean_trace_losses(losses, self.labeled),
            scores.mean_step_losses(losses, self._spans),
            self._spans,
            self._incorrect_step_fraction,
            self.corrupted,
            self._step_status,
        )

    def diagnostics(self, label_quality: NDArray[np.float32]) -> dict[str, float]:
        """Return mean losses by status of the characters, and how loss and re-execution detect corrupted traces."""
        losses = _losses(label_quality)
        trace_losses = scores.mean_trace_losses(losses, self.labeled)
        return scores.losses_by_status(losses, self._token_status, self.labeled) | scores.score_execution(
            trace_losses, self._incorrect_step_fraction, self.corrupted
        )


def _losses(label_quality: NDArray[np.float32]) -> NDArray[np.float32]:
    losses: NDArray[np.float32] = -np.log(np.clip(label_quality, MIN_LABEL_QUALITY, 1))
    return losses
