"""Metrics against scikit-learn, torchmetrics and SciPy on random numbers with ties, rare classes and values at edges."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sklearn_metrics
from torchmetrics.functional import classification as torch_metrics
from torchmetrics.functional.retrieval import retrieval_r_precision

from noisybench.evaluation import classification, detectors, metrics, segmentation
from noisybench.evaluation.catalog import METRICS
from noisybench.records.schema import Detection, EpochRow

SEEDS = range(4)


def flags(seed: int, size: int = 400, levels: int = 25) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores with ties, flags and incorrect labels."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(size) < 0.3
    score = np.round(rng.beta(2, 3, size) + 0.3 * wrong, 3)
    score = np.floor(score * levels) / levels
    return score, score > 0.5, wrong


def classes(seed: int, size: int = 300, number: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return class probabilities, predictions and targets; the last class is rare."""
    rng = np.random.default_rng(seed)
    targets = np.minimum(rng.geometric(0.35, size) - 1, number - 1)
    probabilities = rng.dirichlet(np.full(number, 0.6), size).astype(np.float32)
    mixed = 0.5 * probabilities + 0.5 * np.eye(number, dtype=np.float32)[np.where(rng.random(size) < 0.6, targets, 0)]
    return mixed, mixed.argmax(1), targets


def status_of(wrong: np.ndarray) -> np.ndarray:
    return wrong.astype(np.int8)


@pytest.mark.parametrize("seed", SEEDS)
def test_accuracy_balanced_accuracy_and_recall(seed: int) -> None:
    _, prediction, targets = classes(seed)
    assert classification.accuracy(prediction, targets) == sklearn_metrics.accuracy_score(targets, prediction)
    assert classification.balanced_accuracy(prediction, targets) == pytest.approx(
        sklearn_metrics.balanced_accuracy_score(targets, prediction), abs=1e-15
    )
    np.testing.assert_allclose(
        classification.recall_by_class(prediction, targets, 6),
        torch_metrics.multiclass_recall(torch.from_numpy(prediction), torch.from_numpy(targets), 6, average="none"),
        rtol=0,
        atol=1e-7,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_auroc_and_average_precision(seed: int) -> None:
    score, flagged, wrong = flags(seed)
    found = detectors.score_detector(score, flagged, status_of(wrong))
    assert found["noise_auroc"] == pytest.approx(sklearn_metrics.roc_auc_score(wrong, score), abs=1e-14)
    test = stats.mannwhitneyu(score[wrong], score[~wrong])
    assert found["noise_auroc"] == pytest.approx(test.statistic / (wrong.sum() * (~wrong).sum()), abs=1e-14)
    tensors = torch.from_numpy(score), torch.from_numpy(wrong).long()
    assert found["average_precision"] == pytest.approx(
        float(torch_metrics.binary_average_precision(*tensors)), abs=1e-6
    )
    assert detectors.score_detection(1 - score, status_of(wrong)).auroc == pytest.approx(
        found["noise_auroc"], abs=1e-14
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_precision_recall_and_balanced_accuracy_of_flags(seed: int) -> None:
    score, flagged, wrong = flags(seed)
    found = detectors.score_detector(score, flagged, status_of(wrong))
    precision, recall = (
        function(wrong, flagged) for function in (sklearn_metrics.precision_score, sklearn_metrics.recall_score)
    )
    assert abs(precision - recall) > 0.05, "numbers that could not be exchanged unnoticed"
    assert (found["precision"], found["recall"]) == (pytest.approx(precision), pytest.approx(recall))
    wanted = sklearn_metrics.balanced_accuracy_score(wrong, flagged)
    assert found["balanced_accuracy"] == pytest.approx(wanted, abs=1e-15)
    assert detectors.correlation(wrong, flagged) == pytest.approx(
        sklearn_metrics.matthews_corrcoef(wrong, flagged), abs=1e-14
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_f1_is_that_of_the_flags_by_the_mixture(seed: int) -> None:
    _, _, wrong = flags(seed)
    quality = np.clip(np.random.default_rng(seed).beta(4, 1, len(wrong)) - 0.5 * wrong, 1e-3, 1)
    found = detectors.score_detection(quality, status_of(wrong))
    assert found.f1 == pytest.approx(sklearn_metrics.f1_score(wrong, metrics.flag_labels(quality)), abs=1e-15)


@pytest.mark.parametrize("seed", SEEDS)
def test_missed_at_the_true_rate_is_one_minus_the_r_precision(seed: int) -> None:
    _, _, wrong = flags(seed)
    score = (
        np.random.default_rng(seed).random(len(wrong)) + 0.4 * wrong
    )  # without ties, whose order torchmetrics chooses
    wanted = 1 - float(retrieval_r_precision(torch.from_numpy(score), torch.from_numpy(wrong)))
    assert detectors.missed_at_true_rate(score, wrong) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_calibration_error_and_cross_entropy(seed: int) -> None:
    probabilities, _, targets = classes(seed)
    tensors = torch.from_numpy(probabilities), torch.from_numpy(targets)
    wanted = float(torch_metrics.multiclass_calibration_error(*tensors, 6, n_bins=15, norm="l1"))
    assert metrics.calibration_error(probabilities, targets) == pytest.approx(wanted, abs=1e-6)
    normalized = probabilities.astype(np.float64) / probabilities.sum(1, dtype=np.float64, keepdims=True)
    wanted = sklearn_metrics.log_loss(targets, normalized, labels=range(6))
    assert metrics.cross_entropy(normalized, targets) == pytest.approx(wanted, abs=1e-14)


def test_a_confidence_at_the_edge_of_two_bins_belongs_to_the_lower_one() -> None:
    # One example of confidence .5 and one above: in bins (0, .5] and (.5, 1] both gaps count, in [.5, 1] they cancel.
    gaps = metrics.calibration_gaps(np.array([0.5, 0.75]), np.array([True, False]), 2)
    np.testing.assert_allclose(gaps, [0.5, -0.75])
    assert metrics.calibration_gaps(np.array([0.0, 1.0]), np.array([False, True]), 2).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("seed", [9, 11, 16])
def test_flags_are_those_of_a_mixture_with_this_start(seed: int) -> None:
    """The losses overlap, so that a start with the weights .99 and .01 ends at 52 to 67 other flags."""
    rng = np.random.default_rng(seed)
    quality = np.exp(-np.concatenate([rng.gamma(1.0, 0.5, 150), rng.gamma(3.0, 0.4, 30)]))
    loss = -np.log(quality)
    scaled = ((loss - loss.min()) / (loss.max() - loss.min()))[:, None]
    weights, means, variances = np.full(2, 0.5), np.array([0.0, 1.0]), np.full(2, scaled.var() + 5e-4)

    def expectation() -> tuple[float, np.ndarray]:
        joint = stats.norm.pdf(scaled, means, np.sqrt(variances)) * weights
        return float(np.log(joint.sum(1)).mean()), joint / joint.sum(1, keepdims=True)

    # Expectation and maximization by hand, to the tolerance of scikit-learn.
    previous, change = -np.inf, np.inf
    while change >= 1e-3:
        bound, posterior = expectation()
        previous, change = bound, abs(bound - previous)
        size = posterior.sum(0)
        weights, means = size / len(loss), (posterior * scaled).sum(0) / size
        variances = (posterior * (scaled - means) ** 2).sum(0) / size + 5e-4
    np.testing.assert_array_equal(metrics.flag_labels(quality), expectation()[1].argmax(1) == means.argmax())


@pytest.mark.parametrize("seed", SEEDS)
def test_iou_dice_and_pixel_accuracy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = torch.from_numpy(rng.integers(0, 4, (3, 16, 16), dtype=np.uint8))
    prediction = torch.where(torch.from_numpy(rng.random((3, 16, 16)) < 0.6), targets.long(), 1)
    targets[:, :2] = 255
    counts = segmentation.pair_counts(targets, prediction, 4).numpy()
    labeled = targets != 255
    pair = prediction[labeled], targets[labeled].long()
    wanted = float(torch_metrics.multiclass_jaccard_index(*pair, 4))
    assert segmentation.mean_iou(counts) == pytest.approx(wanted, abs=1e-6)
    found = segmentation.mask_diagnostics(counts, np.ones((3, 4), np.int64), list("abcd"), 0)
    f1 = sklearn_metrics.f1_score(pair[1], pair[0], average="macro")
    assert found["dice"] == pytest.approx(f1, abs=1e-14)
    assert found["pixel_accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(pair[1], pair[0]), abs=1e-15)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_has_a_formula_and_a_complete_card(name: str) -> None:
    metric = METRICS[name]
    module, _, function = metric.formula.rpartition(".")
    formula: Callable[..., Any] = getattr(importlib.import_module(module), function)
    assert formula.__doc__
    assert metric.direction in ("higher", "lower", "neither")
    assert metric.summary[0].isupper()
    assert not metric.summary.endswith(".")
    card = metric.fidelity
    assert card.compared
    assert bool(card.reference) == bool(card.commit) == bool(card.difference)


def test_every_number_of_a_run_belongs_to_a_metric() -> None:
    covered = {name for metric in METRICS.values() for name in metric.fields}
    other = {
        "epoch", "stage", "train_loss", "learning_rate", "seconds", "time", "detectors", "diagnostics", "warnings", "metric",
    }  # fmt: skip
    status = np.array([0, 1], np.int8)
    of_detectors = set(detectors.score_detector(np.array([0.1, 0.9]), status == 1, status))
    numbers = {field.name for record in (EpochRow, Detection) for field in fields(record)} - other
    assert numbers | of_detectors | {"calibration_error", "correction_accuracy", "test_recall"} <= covered
