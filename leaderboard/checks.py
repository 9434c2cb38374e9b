"""Checks of a submitted record against its specification, the data and its predictions."""

from __future__ import annotations

import functools
import itertools
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.config.source_code import DIGEST_LENGTH
from noisybench.config.spec import Component, RunSpec, run_identity
from noisybench.data.dataset import Dataset
from noisybench.data.label_sets.label_set import LabelSet
from noisybench.data.privileged import available_privileged_info
from noisybench.data.targets import IN_DISTRIBUTION
from noisybench.errors import show
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
from noisybench.leaderboard.nested_components import without_places
from noisybench.leaderboard.run_evidence import RunEvidence
from noisybench.leaderboard.strict_files import same_json
from noisybench.records.schema import Detection, RunRecord
from noisybench.training.mitigation import Requirements
from noisybench.training.schedule import learning_rate_at
from noisybench.training.stack import Stack

FLOAT_TOLERANCE = 1e-4
"""Allowed absolute and relative difference of a score: library versions sum floats in different orders."""


def check_specification(record: RunRecord, spec: RunSpec) -> list[str]:
    """Return what in a record does not follow from its specification and its code.

    Args:
        record: record as claimed.
        spec: specification resolved from the record, with the data of the verifier.
    """
    requirements = _requirements(json.dumps([component.as_dict() for component in spec.mitigations], default=str))
    searched = spec.provenance.privileged if spec.provenance else ()
    privileged = {*requirements.privileged, *spec.preset_privileged, *searched}
    problems = [
        f"{name} is claimed to be {show(claimed, limit=200)}, but its specification gives {show(computed, limit=200)}"
        for name, claimed, computed in (
            ("identity", record.identity, run_identity(spec.settings_hash, record.code)),
            ("settings", record.settings, spec.settings_hash),
            ("stack", record.stack, spec.stack),
            ("budget", record.budget, spec.budget_hash),
            ("seed", record.seed, spec.seed),
            ("dataset", record.dataset, spec.dataset_label),
            ("noise", record.noise, spec.noise.display_name(hide=("path",))),
            ("task", record.task, spec.task_label),
            ("title", record.title, spec.title),
            ("privileged", record.privileged, sorted(privileged)),
            ("parts of the code", sorted(record.code), sorted(spec.code)),
        )
        if claimed != computed
    ]
    if record.settings != spec.settings_hash and spec.data:
        problems.append(
            f"the settings cover the bytes of the files here for {', '.join(sorted(spec.data))}; give the same data"
        )
    if not all(re.fullmatch(f"[0-9a-f]{{{DIGEST_LENGTH}}}", digest) for digest in record.code.values()):
        problems.append("code must have the digests of source code")
    # Defaults filled in and nothing else, so that no text hides in a specification.
    complete = without_places(spec.as_dict())
    problems += [
        f"spec.{field} is not complete as noisybench writes it"
        for field in sorted({*record.spec, *complete})
        if not same_json(record.spec.get(field), complete.get(field)) or field not in record.spec
    ]
    for number, row in enumerate(record.rows):
        rate = requirements.lr_multiplier * learning_rate_at(spec.budget, row.epoch + 1)
        if row.stage == "train" and not _agree(row.learning_rate, rate):
            problems.append(
                f"row {number}: learning_rate is claimed to be {row.learning_rate}, but the budget gives {rate:g}"
            )
    return problems


@functools.cache
def _requirements(mitigations: str) -> Requirements:
    # Cached by its JSON, because the runs of a submission share few stacks.
    stack = [Component("mitigations", values.pop("name"), values).build() for values in json.loads(mitigations)]
    return Stack(stack).requirements


def check_record(record: RunRecord, dataset: Dataset, labels: LabelSet, evidence: RunEvidence) -> list[str]:
    """Return what in a record does not follow from the data and its predictions.

    Args:
        record: record as claimed.
        dataset: dataset of the specification, with the images of the noise model.
        labels: label set of the specification.
        evidence: predictions of the run.
    """
    problems = []
    unavailable = sorted(set(record.privileged) - set(available_privileged_info(labels, dataset)))
    if unavailable:
        problems.append(
            f"its stack uses privileged information that the setting does not have: {', '.join(unavailable)}"
        )
    if record.label_set != labels.hash or record.manifest.get("sha256") != labels.hash:
        # Further checks would compare with other labels.
        return [
            *problems,
            f"another label set: the record claims {show(record.label_set[:12])}, but the data here gives "
            f"{labels.hash[:12]!r}",
        ]
    manifest = {k: v for k, v in labels.manifest.items() if k not in ("transition_counts", "transition_matrix")}
    # The round trip through JSON turns tuples into lists, as in the record that was read.
    if record.manifest != json.loads(json.dumps(manifest)):
        problems.append("its manifest is not that of the label set")
    # Scores of arrays with other shapes or other examples would fail or mean nothing, so shapes come first.
    shape_problems = _check_shapes(record, dataset, labels, evidence)
    return [*problems, *(shape_problems or _check_scores(record, dataset, labels, evidence))]


def _check_shapes(record: RunRecord, dataset: Dataset, labels: LabelSet, evidence: RunEvidence) -> list[str]:
    """Check that the predictions are for the splits of this dataset, and for its targets."""
    rows, train, validation, test = len(record.rows), dataset.train, dataset.validation, dataset.test
    problems = [
        f"{name} is not that of the {split} split"
        for name, split, claimed, expected in (
            ("test_index", "test", evidence.test_index, test.index),
            ("test_target", "test", evidence.test_target, test.targets),
            ("validation_index", "validation", evidence.validation_index, validation.index),
            ("train_index", "training", evidence.train_index, train.index),
            ("train_observed", "training", evidence.train_observed, labels.train),
        )
        # Predictions are aligned by row: the same examples in another order would change every score.
        if not np.array_equal(claimed, expected)
    ]
    problems += [
        f"{name} has the shape {claimed}, but must have {expected}"
        for name, claimed, expected in (
            ("test_by_epoch", evidence.test_by_epoch.shape, (rows, len(test))),
            ("test_probabilities", evidence.test_probabilities.shape, (len(test), dataset.num_classes)),
            ("validation_by_epoch", evidence.validation_by_epoch.shape, (rows, len(validation))),
            ("label_quality", evidence.label_quality.shape, (len(train),)),
            ("prediction", evidence.prediction.shape, (len(train),)),
            ("corrected_labels", evidence.corrected_labels.shape, (len(train),)),
        )
        if claimed != expected
    ]
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


def _check_scores(record: RunRecord, dataset: Dataset, labels: LabelSet, evidence: RunEvidence) -> list[str]:
    """Compare every score that follows from the predictions."""
    problems: list[str] = []
    validation, test_targets = dataset.validation.targets, dataset.test.targets
    final, train = record.rows[-1], dataset.train.targets
    status = labels.label_status(train)
    for index, row in enumerate(record.rows):
        scores = {
            **score_test(evidence.test_by_epoch[index], test_targets, train, labels.train, status, dataset.num_classes),
            **score_validation(evidence.validation_by_epoch[index], validation, labels.validation),
        }
        problems += _differences(f"row {index} ({row.stage}, epoch {row.epoch}): ", vars(row), scores)
    # Classes and probabilities are stored apart: accuracy and calibration could otherwise come from different networks.
    if not np.array_equal(evidence.test_probabilities.argmax(1), evidence.test_by_epoch[-1]):
        problems.append("test_probabilities do not give the predictions of the last row")
    scores = {
        **score_predictions(evidence.prediction, train, labels.train, status),
        **score_label_quality(evidence.label_quality, status),
        "test_loss": metrics.cross_entropy(evidence.test_probabilities, test_targets),
    }
    problems += _differences("", vars(final), scores)
    # Only stacks that correct labels report how many; which ones do cannot be seen from the predictions.
    mislabeled = status == IN_DISTRIBUTION
    if "corrected_fraction" in final.diagnostics and mislabeled.any():
        corrected: Scores = {"corrected_fraction": float((evidence.corrected_labels == train)[mislabeled].mean())}
        problems += _differences("diagnostics.", final.diagnostics, corrected)
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
            problems += _differences(f"{name} of class ", dict(enumerate(claimed)), dict(enumerate(recalls)))
    problems += _check_changes(record, len(train))
    return [*problems, *_differences("", vars(record), summary), *_check_detection(record.detection, detection)]


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


def _check_detection(claimed: Detection, computed: Detection) -> list[str]:
    scores = {name: value for name, value in vars(computed).items() if name != "roc"}
    problems = _differences("detection.", vars(claimed), scores)
    same_kind = (claimed.roc is None) == (computed.roc is None)
    if not same_kind or (claimed.roc and not _curves_agree(claimed.roc, computed.roc or [])):
        problems.append("detection.roc is not what the label quality gives")
    return problems


def _curves_agree(claimed: list[float], computed: list[float]) -> bool:
    return len(claimed) == len(computed) and np.allclose(claimed, computed, atol=FLOAT_TOLERANCE)


def _differences(prefix: str, claimed: Mapping[Any, Any], computed: Mapping[Any, float | None]) -> list[str]:
    """Compare scores by name."""
    return [
        f"{prefix}{name} is claimed to be {claimed[name]}, but the predictions give {value}"
        for name, value in computed.items()
        if not _agree(claimed[name], value)
    ]


def _agree(claimed: float | None, computed: float | None) -> bool:
    # A score that the predictions do not define must be missing from the record as well.
    if claimed is None or computed is None:
        return claimed is computed
    # The absolute tolerance covers scores near 0, the relative one losses above 1.
    return math.isclose(claimed, computed, abs_tol=FLOAT_TOLERANCE, rel_tol=FLOAT_TOLERANCE)
