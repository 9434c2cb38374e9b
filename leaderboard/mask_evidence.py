"""Evidence of segmentation runs: what is stored of them, and the scores that follow from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.data.dataset import Dataset, Split
from noisybench.data.label_sets.label_set import LabelSet
from noisybench.data.masks.compressed import decompress_masks
from noisybench.data.targets import IGNORED, IN_DISTRIBUTION
from noisybench.errors import UserError
from noisybench.evaluation import metrics
from noisybench.evaluation.detectors import score_detection
from noisybench.evaluation.segmentation import (
    count_masks,
    early_learning,
    mask_correction_accuracy,
    mask_diagnostics,
    mean_iou,
    sample_pixels,
    score_corrected_masks,
    score_mask_predictions,
)
from noisybench.leaderboard.comparison import (
    CLASS_FIELDS,
    check_array_shapes,
    check_detection,
    check_index,
    differences,
    located_rows,
)
from noisybench.records.evidence import MaskEvidence
from noisybench.records.schema import RunRecord

TEST_MEANS = ("dice", "boundary_iou", "pixel_accuracy", "miou_with_background")
CORRECTIONS = ("label_miou", "corrected_fraction")


def diagnostics(class_names: list[str]) -> frozenset[str]:
    """Return the names of all diagnostics that follow from the evidence: of the test masks, and of the training masks.

    Example:
        >>> sorted(diagnostics(["disc"]) - {*TEST_MEANS, *CORRECTIONS})
        ['iou.disc', 'learned.disc', 'memorized.disc']
    """
    by_class = {f"{kind}.{name}" for kind in ("iou", "learned", "memorized") for name in class_names}
    return frozenset({*TEST_MEANS, *CORRECTIONS, *by_class})


def check_shapes(record: RunRecord, dataset: Dataset, labels: LabelSet, evidence: MaskEvidence) -> list[str]:
    """Return which predictions are not for the splits of a dataset."""
    pixels = sample_pixels(labels.label_status(dataset.train.targets), labels.hash)
    problems = check_index(
        {
            "test_index": ("test", evidence.test_index, dataset.test.index),
            "validation_index": ("validation", evidence.validation_index, dataset.validation.index),
            "train_index": ("training", evidence.train_index, dataset.train.index),
        }
    )
    problems += check_array_shapes({"label_quality": (evidence.label_quality.shape, pixels.shape)})
    if not record.rows:
        problems.append("there are no rows")
    if not np.isfinite(evidence.label_quality).all():
        problems.append("label_quality must be finite")
    return problems


def check_scores(record: RunRecord, dataset: Dataset, labels: LabelSet, evidence: MaskEvidence) -> list[str]:
    """Return which scores of a record do not follow from the predicted masks."""
    try:
        return [
            *_check_test(record, dataset, evidence),
            *_check_validation(record, dataset, labels, evidence),
            *_check_training(record, dataset, labels, evidence),
        ]
    except UserError as error:
        return list(error.problems)


def _check_test(record: RunRecord, dataset: Dataset, evidence: MaskEvidence) -> Iterator[str]:
    names, first = dataset.class_names, _first_class(record, dataset)
    known = {*TEST_MEANS, *(f"iou.{name}" for name in names)}
    predictions = _masks(evidence, "test_by_epoch", len(record.rows), dataset.test, dataset.num_classes)
    for (where, row), predicted in zip(located_rows(record), predictions, strict=True):
        counts, boundary = count_masks(predicted, dataset.test.targets, dataset.num_classes)
        undefined: dict[str, float | None] = dict.fromkeys(CLASS_FIELDS)
        yield from differences(where, vars(row), {"test_score": mean_iou(counts, first), **undefined})
        scores = mask_diagnostics(counts, boundary, names, first)
        # Classes that do not occur have no score, and must have none in the record either.
        yield from differences(f"{where}diagnostics.", row.diagnostics, {name: scores.get(name) for name in known})


def _check_validation(record: RunRecord, dataset: Dataset, labels: LabelSet, evidence: MaskEvidence) -> Iterator[str]:
    split, first = dataset.validation, _first_class(record, dataset)
    # Without a validation split, no masks are stored for it.
    num_rows = len(record.rows) if len(split) else 0
    predictions = _masks(evidence, "validation_by_epoch", num_rows, split, dataset.num_classes)
    by_row: list[dict[str, float | None]] = [
        {
            name: mean_iou(count_masks(predicted, targets, dataset.num_classes)[0], first)
            for name, targets in (("noisy_val_score", labels.validation), ("clean_val_score", split.targets))
        }
        for predicted in predictions
    ]
    without: dict[str, float | None] = {"noisy_val_score": None, "clean_val_score": None}
    for (where, row), scores in zip(located_rows(record), by_row or [without] * len(record.rows), strict=True):
        yield from differences(where, vars(row), scores)


def _check_training(record: RunRecord, dataset: Dataset, labels: LabelSet, evidence: MaskEvidence) -> Iterator[str]:
    train, observed, num_classes = dataset.train, labels.train, dataset.num_classes
    clean, first, final = train.targets, _first_class(record, dataset), record.rows[-1]
    status = labels.label_status(clean)
    sampled = status.reshape(-1)[sample_pixels(status, labels.hash)]
    (prediction,) = _masks(evidence, "prediction", 1, train, num_classes)
    (corrected,) = _masks(evidence, "corrected_labels", 1, train, num_classes, may_be_unlabeled=True)
    scores = {
        **score_mask_predictions(prediction, clean, observed, status, num_classes, first),
        "noise_auroc": metrics.noise_auroc(evidence.label_quality, sampled == IN_DISTRIBUTION),
    }
    yield from differences("", vars(final), scores)
    learned: dict[str, Any] = early_learning(prediction, clean, observed, status, dataset.class_names)
    known = {f"{kind}.{name}": None for kind in ("learned", "memorized") for name in dataset.class_names}
    yield from differences("diagnostics.", final.diagnostics, known | learned)
    # Only stacks that correct labels report it; which ones do cannot be seen from the predictions.
    if any(name in final.diagnostics for name in CORRECTIONS):
        of_corrected: dict[str, Any] = score_corrected_masks(corrected, clean, status, num_classes, first)
        yield from differences("diagnostics.", final.diagnostics, dict.fromkeys(CORRECTIONS) | of_corrected)
    accuracy = mask_correction_accuracy(corrected, clean, observed)
    yield from differences("", vars(record), {"correction_accuracy": accuracy})
    yield from check_detection(record.detection, score_detection(evidence.label_quality, sampled))
    if record.test_recall or record.noisy_val_recall:
        yield "test_recall and noisy_val_recall must be empty: masks have IoU by class instead"


def _first_class(record: RunRecord, dataset: Dataset) -> int:
    """Return 1 if the background is left out of the mean IoU, else 0."""
    task = record.spec["task"]
    # A forged record may have the name alone, which `check_specification` refuses.
    includes_all = isinstance(task, Mapping) and task.get("background")
    return 0 if includes_all or not dataset.has_background else 1


def _masks(
    evidence: MaskEvidence, name: str, count: int, split: Split, num_classes: int, may_be_unlabeled: bool = False
) -> Iterator[NDArray[np.uint8]]:
    """Yield the (N, H, W) masks of a split, one at a time, so that those of all rows are never in memory together.

    Raises:
        UserError: there are fewer or more, or they have other shapes or other classes.
    """
    rest = getattr(evidence, name).tobytes()
    for number in range(count):
        try:
            masks, rest = decompress_masks(rest, split.targets.shape)
        except UserError as error:
            raise UserError(f"{name}, row {number}: {error.problems[0]}") from None
        classes = np.unique(masks)
        if may_be_unlabeled:
            classes = classes[classes != IGNORED]
        if classes.max(initial=0) >= num_classes:
            raise UserError(f"{name}, row {number}: has the class {classes.max()}, but there are {num_classes}")
        yield masks
    if rest:
        raise UserError(f"{name}: has {len(rest)} bytes more than the masks of {count} rows")
