"""Evidence of runs with one class per example: what is stored of them, and the scores that follow from it."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from noisybench.data.dataset import Dataset
from noisybench.data.label_sets.label_set import LabelSet
from noisybench.data.targets import IN_DISTRIBUTION
from noisybench.errors import UserError
from noisybench.evaluation import metrics
from noisybench.evaluation.classification import (
    Scores,
    listed_recall,
    score_final,
    score_label_quality,
    score_predictions,
    score_test,
    score_validation,
)
from noisybench.evaluation.steps import STEP_SCORES
from noisybench.leaderboard.comparison import (
    FLOAT_TOLERANCE,
    check_array_shapes,
    check_detection,
    check_index,
    differences,
    located_rows,
)
from noisybench.records.evidence import ClassEvidence
from noisybench.records.schema import RunRecord

if TYPE_CHECKING:
    from noisybench.tracking.reader import TrackedRun
    from noisybench.tracking.store import Store

DIAGNOSTICS = frozenset({"corrected_fraction", "kept_fraction", "kept_noise_rate", "mean_shift_accuracy", *STEP_SCORES})
"""Diagnostics of the evaluator, which are fractions."""


def collect(store: Store, run: TrackedRun, record: RunRecord) -> ClassEvidence:
    """Return the evidence of a finished run from its tables of predictions.

    Raises:
        UserError: its predictions were not stored.
    """
    # Its import is slow, and only packaging needs it.
    import pandas

    tables = {}
    for name in ("predictions", "samples", "validation"):
        with store.runs.open_file(run, f"{name}.parquet") as file:
            if file is not None:
                tables[name] = pandas.read_parquet(file)
    # A run without a validation split has no table for it, which is no missing file.
    if len(tables) < 2 + bool(record.manifest["dataset"]["sizes"]["validation"]):
        raise UserError(f"{record.title}: its predictions are missing from the store; train it again in a new store")
    test, samples, validation = tables["predictions"], tables["samples"], tables.get("validation")
    return ClassEvidence(
        test_index=test["index"].to_numpy(np.int64),
        test_target=test["target"].to_numpy(np.int64),
        test_by_epoch=_by_epoch(test),
        test_probabilities=np.stack(test["probabilities"].tolist()).astype(np.float32),
        validation_index=np.empty(0, np.int64) if validation is None else validation["index"].to_numpy(np.int64),
        validation_by_epoch=np.empty((len(record.rows), 0), np.int16) if validation is None else _by_epoch(validation),
        train_index=samples["index"].to_numpy(np.int64),
        train_observed=samples["observed"].to_numpy(np.int64),
        label_quality=samples["label_quality"].to_numpy(np.float32),
        prediction=samples["prediction"].to_numpy(np.int16),
        corrected_labels=samples["corrected_labels"].to_numpy(np.int16),
    )


def _by_epoch(table: Any) -> Any:
    """Return (rows, examples) predicted classes from a table with one list per example."""
    # Scores are computed one epoch at a time, so each epoch is contiguous in memory.
    return np.ascontiguousarray(np.stack(table["by_epoch"].tolist()).astype(np.int16).T)


def check_shapes(record: RunRecord, dataset: Dataset, labels: LabelSet, evidence: ClassEvidence) -> list[str]:
    """Return which predictions are not for the splits of a dataset, or not for its targets."""
    rows, train, validation, test = len(record.rows), dataset.train, dataset.validation, dataset.test
    problems = check_index(
        {
            "test_index": ("test", evidence.test_index, test.index),
            "test_target": ("test", evidence.test_target, test.targets),
            "validation_index": ("validation", evidence.validation_index, validation.index),
            "train_index": ("training", evidence.train_index, train.index),
            "train_observed": ("training", evidence.train_observed, labels.train),
        }
    )
    problems += check_array_shapes(
        {
            "test_by_epoch": (evidence.test_by_epoch.shape, (rows, len(test))),
            "test_probabilities": (evidence.test_probabilities.shape, (len(test), dataset.num_classes)),
            "validation_by_epoch": (evidence.validation_by_epoch.shape, (rows, len(validation))),
            "label_quality": (evidence.label_quality.shape, (len(train),)),
            "prediction": (evidence.prediction.shape, (len(train),)),
            "corrected_labels": (evidence.corrected_labels.shape, (len(train),)),
        }
    )
    if not rows:
        problems.append("there are no rows")
    # NaN has no defined rank, so an AUROC of it would depend on the sorting algorithm.
    if not (np.isfinite(evidence.label_quality).all() and np.isfinite(evidence.test_probabilities).all()):
        problems.append("label_quality and test_probabilities must be finite")
    # Other numbers would give any loss and calibration error for the same predictions.
    elif not _are_probabilities(evidence.test_probabilities):
        problems.append("test_probabilities must be from 0 to 1 and have the sum 1")
    return problems


def _are_probabilities(values: NDArray[np.float32]) -> bool:
    # Networks in bfloat16 have three digits.
    is_inside = bool(((values >= 0) & (values <= 1 + 1e-3)).all())
    return is_inside and bool((abs(values.sum(axis=-1, dtype=np.float64) - 1) < 0.02).all())


def check_scores(record: RunRecord, dataset: Dataset, labels: LabelSet, evidence: ClassEvidence) -> list[str]:
    """Return which scores of a record do not follow from the predictions."""
    problems: list[str] = []
    validation, test_targets = dataset.validation.targets, dataset.test.targets
    final, train = record.rows[-1], dataset.train.targets
    status = labels.label_status(train)
    for index, (where, row) in enumerate(located_rows(record)):
        scores = {
            **score_test(evidence.test_by_epoch[index], test_targets, train, labels.train, status, dataset.num_classes),
            **score_validation(evidence.validation_by_epoch[index], validation, labels.validation),
        }
        problems += differences(where, vars(row), scores)
    # Classes and probabilities are stored apart: accuracy and calibration could otherwise come from different networks.
    if not np.array_equal(evidence.test_probabilities.argmax(1), evidence.test_by_epoch[-1]):
        problems.append("test_probabilities do not give the predictions of the last row")
    scores = {
        **score_predictions(evidence.prediction, train, labels.train, status),
        **score_label_quality(evidence.label_quality, status),
        "test_loss": metrics.cross_entropy(evidence.test_probabilities, test_targets),
    }
    problems += differences("", vars(final), scores)
    # Only stacks that correct labels report how many; which ones do cannot be seen from the predictions.
    mislabeled = status == IN_DISTRIBUTION
    if "corrected_fraction" in final.diagnostics and mislabeled.any():
        corrected: Scores = {"corrected_fraction": float((evidence.corrected_labels == train)[mislabeled].mean())}
        problems += differences("diagnostics.", final.diagnostics, corrected)
    summary = score_final(
        evidence.test_probabilities,
        test_targets,
        evidence.label_quality,
        evidence.corrected_labels,
        train,
        labels.train,
        status,
    )
    detection = summary.pop("detection")
    for name, claimed, prediction, targets in (
        ("test_recall", record.test_recall, evidence.test_by_epoch, test_targets),
        ("noisy_val_recall", record.noisy_val_recall, evidence.validation_by_epoch, labels.validation),
    ):
        recalls = listed_recall(prediction[-1], targets, dataset.num_classes)
        if len(claimed) != len(recalls):
            problems.append(f"{name} has {len(claimed)} classes, but must have {len(recalls)}")
        else:
            problems += differences(f"{name} of class ", dict(enumerate(claimed)), dict(enumerate(recalls)))
    problems += _check_changes(record, len(train))
    return [*problems, *differences("", vars(record), summary), *check_detection(record.detection, detection)]


def _check_changes(record: RunRecord, num_examples: int) -> list[str]:
    """Return which prediction changes contradict the training scores of their epochs, or the scored examples."""
    problems = []
    size = record.spec["budget"].get("train_eval_size")
    is_sampled = size is not None and size < num_examples
    for number, (before, row) in enumerate(itertools.pairwise(record.rows), 1):
        if row.stage == "train" and is_sampled == (row.prediction_changes is not None):
            state = "measured, but a sample is" if is_sampled else "missing, but all training examples are"
            problems.append(f"row {number}: prediction_changes is {state} scored")
        if row.stage != "train" or row.prediction_changes is None:
            continue
        changed = row.prediction_changes * num_examples
        if not math.isclose(changed, round(changed), abs_tol=1e-3):
            problems.append(f"row {number}: prediction_changes is no fraction of {num_examples} training examples")
        # An example enters or leaves the correctly predicted ones only by a change of its prediction.
        difference = abs(row.train_score - before.train_score)
        if difference > row.prediction_changes + FLOAT_TOLERANCE:
            problems.append(
                f"row {number}: prediction_changes is claimed to be {row.prediction_changes}, but train_score changes by "
                f"{difference:g}"
            )
    return problems
