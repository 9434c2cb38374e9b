"""Evidence of chain-of-thought runs: what is stored of them, and the scores that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from noisybench.data.dataset import Dataset
from noisybench.data.label_sets.label_set import LabelSet
from noisybench.data.traces.packed_texts import unpack_texts
from noisybench.errors import UserError
from noisybench.evaluation.trace_references import ObservedTraces, ReferenceAnswers, score_validation
from noisybench.evaluation.traces import LOSS_NAMES, response_diagnostics, score_token_predictions
from noisybench.leaderboard.comparison import (
    CLASS_FIELDS,
    check_array_shapes,
    check_detection,
    check_index,
    differences,
    located_rows,
)
from noisybench.records.evidence import TraceEvidence
from noisybench.records.schema import RunRecord

Result = TypeVar("Result")

RESPONSES = ("unparsable", "step_accuracy", "valid_traces", "length", "first_error_step")
TRAINING = (
    *LOSS_NAMES.values(), "detectable_by_execution", "trace_loss_auroc_detectable", "trace_loss_auroc_undetectable",
)  # fmt: skip
SAMPLED = "exact_match_sampled"

AMOUNTS = frozenset({"length", "first_error_step", *LOSS_NAMES.values()})
"""Diagnostics that are no fractions."""
CLAIMED = frozenset({"kept_fraction", "kept_noise_rate", "mean_shift_accuracy"})
"""Diagnostics that do not follow from the evidence."""

MAX_CHARACTERS = 32
"""Most characters of a response for each character of the longest trace: tokens may have several."""


def diagnostics(class_names: list[str]) -> frozenset[str]:
    """Return the names of all diagnostics that follow from the evidence."""
    return frozenset({*RESPONSES, *TRAINING, SAMPLED})


def check_shapes(record: RunRecord, dataset: Dataset, labels: LabelSet, evidence: TraceEvidence) -> list[str]:
    """Return which responses are not for the splits of a dataset."""
    rows, train, validation, test = len(record.rows), dataset.train, dataset.validation, dataset.test
    problems = check_index(
        {
            "test_index": ("test", evidence.test_index, test.index),
            "validation_index": ("validation", evidence.validation_index, validation.index),
            "train_index": ("training", evidence.train_index, train.index),
        }
    )
    problems += check_array_shapes(
        {
            "test_lengths": (evidence.test_lengths.shape, (rows, len(test))),
            "validation_lengths": (evidence.validation_lengths.shape, (rows, len(validation))),
            "sampled_lengths": (evidence.sampled_lengths.shape, (1, len(test))),
            "label_quality": (evidence.label_quality.shape, train.targets.shape),
            "prediction": (evidence.prediction.shape, train.targets.shape),
        }
    )
    if not rows:
        problems.append("there are no rows")
    if not np.isfinite(evidence.label_quality).all():
        problems.append("label_quality must be finite")
    return problems


def check_scores(record: RunRecord, dataset: Dataset, labels: LabelSet, evidence: TraceEvidence) -> list[str]:
    """Return which scores of a record do not follow from the responses."""
    try:
        return [
            *_check_responses(record, dataset, labels, evidence),
            *_check_training(record, dataset, labels, evidence),
        ]
    except UserError as error:
        return list(error.problems)


def _check_responses(record: RunRecord, dataset: Dataset, labels: LabelSet, evidence: TraceEvidence) -> Iterator[str]:
    trace_format = dataset.trace_format
    assert trace_format is not None
    references = ReferenceAnswers(trace_format, dataset.test)

    def validate(responses: list[str]) -> dict[str, float | None]:
        return score_validation(trace_format, responses, dataset.validation, labels)

    tests = _texts(evidence, "test", dataset)
    validations = _texts(evidence, "validation", dataset)
    for (where, row), responses, validation in zip(located_rows(record), tests, validations, strict=True):
        checks, is_correct = _execute(references.check, responses)
        scores: dict[str, Any] = {
            "test_score": float(np.mean(is_correct)),
            **_execute(validate, validation),
            **dict.fromkeys(CLASS_FIELDS),
        }
        yield from differences(where, vars(row), scores)
        # Responses without an incorrect step have no first one, and the record must have none either.
        measured: dict[str, Any] = dict.fromkeys(RESPONSES) | response_diagnostics(checks, responses)
        # Responses are sampled after the last epoch alone, and once more after a refinement.
        if row.epoch < record.rows[-1].epoch:
            measured[SAMPLED] = None
        yield from differences(f"{where}diagnostics.", row.diagnostics, measured)
    (sampled,) = _texts(evidence, "sampled", dataset)
    accuracy = {SAMPLED: float(np.mean(_execute(references.check, sampled)[1]))}
    yield from differences("diagnostics.", record.rows[-1].diagnostics, accuracy)


def _execute(check: Callable[[list[str]], Result], responses: list[str]) -> Result:
    """Check responses by re-executing them.

    Raises:
        UserError: a response has a number that no run writes.
    """
    try:
        return check(responses)
    # Python parses no integers of more than 4,300 digits.
    except ValueError as error:
        raise UserError(f"a response cannot be executed again ({error})") from None


def _check_training(record: RunRecord, dataset: Dataset, labels: LabelSet, evidence: TraceEvidence) -> Iterator[str]:
    observed, final = ObservedTraces(dataset, labels), record.rows[-1]
    quality = evidence.label_quality.astype(np.float32)
    detection = observed.detection(quality)
    scores = score_token_predictions(
        evidence.prediction, dataset.train.targets, labels.train, observed.label_status, observed.labeled
    )
    yield from differences("", vars(final), {**scores, "noise_auroc": detection.auroc})
    measured: dict[str, Any] = dict.fromkeys(TRAINING) | observed.diagnostics(quality)
    yield from differences("diagnostics.", final.diagnostics, measured)
    for name, computed in observed.detectors(quality).items():
        yield from differences(f"detectors.{name}.", final.detectors.get(name, {}), computed)
    yield from check_detection(record.detection, detection)
    undefined = {"calibration_error": None, "correction_accuracy": None}
    yield from differences("", vars(record), undefined)
    if record.test_recall or record.noisy_val_recall:
        yield "test_recall and noisy_val_recall must be empty: traces have no classes"


def _texts(evidence: TraceEvidence, name: str, dataset: Dataset) -> list[list[str]]:
    """Return the responses of each row.

    Raises:
        UserError: the bytes are no texts of these lengths, or a text is longer than any response.
    """
    try:
        texts = unpack_texts(getattr(evidence, f"{name}_responses"), getattr(evidence, f"{name}_lengths"))
    except UserError as error:
        raise UserError(f"{name}_responses: {error.problems[0]}") from None
    # Longer ones cannot be written by a model, and would take long to re-execute.
    limit = MAX_CHARACTERS * dataset.test.targets.shape[1]
    longest = max((len(text) for row in texts for text in row), default=0)
    if longest > limit:
        raise UserError(f"{name}_responses: has a response of {longest} characters, more than the limit of {limit}")
    return texts
