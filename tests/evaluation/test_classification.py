"""Scores of predicted classes, detectors and selection rules against scikit-learn, brute force and sequences by hand."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, recall_score

from noisybench.evaluation.classification import (
    balanced_accuracy,
    listed_recall,
    memorized_by_chance,
    recall_by_class,
    score_predictions,
    score_test,
)
from noisybench.evaluation.detectors import missed_at_true_rate, score_detection, score_detector
from noisybench.records.schema import EpochRow
from noisybench.records.selection import LABEL_WAVE_PATIENCE, label_wave, noisy_val, score_by_balanced_accuracy


@given(seed=st.integers(0, 500), classes=st.integers(2, 12))
@settings(deadline=None, max_examples=40)
def test_recall_and_balanced_accuracy_are_those_of_scikit_learn(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    # The classes have unlike sizes, and all of them have examples.
    targets = np.concatenate([np.arange(classes), rng.integers(0, classes, 50) * rng.integers(0, 2, 50)])
    prediction = np.where(rng.random(len(targets)) < 0.5, targets, rng.integers(0, classes, len(targets)))
    wanted = recall_score(targets, prediction, average=None, labels=range(classes), zero_division=np.nan)
    np.testing.assert_allclose(recall_by_class(prediction, targets, classes), wanted, rtol=0, atol=1e-15)
    assert balanced_accuracy(prediction, targets) == pytest.approx(
        balanced_accuracy_score(targets, prediction), abs=1e-15
    )


def test_classes_without_examples_are_left_out_of_the_mean() -> None:
    prediction, targets = np.array([0, 1, 3, 2]), np.array([0, 0, 3, 3])
    assert listed_recall(prediction, targets, 5) == [0.5, None, None, 0.5, None]
    assert balanced_accuracy(prediction, targets) == 0.5
    assert balanced_accuracy(prediction[:0], targets[:0]) is None
    assert listed_recall(prediction[:0], targets[:0], 5) == []


def test_a_method_that_neglects_a_rare_class_has_a_low_balanced_accuracy() -> None:
    targets = np.repeat([0, 1], [90, 10])
    scores = score_test(np.zeros(100, int), targets, targets, targets, np.zeros(100, np.int8), 2)
    assert scores == {"test_score": 0.9, "test_balanced_accuracy": 0.5, "memorized_chance": None}


def mislabeled(classes: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return clean targets, observed ones of which each is another class, and the label status."""
    clean = np.arange(size) % classes
    observed = (clean + 1 + np.arange(size) // classes % (classes - 1)) % classes
    return clean, observed, (clean != observed).astype(np.int8)


def test_without_errors_on_the_test_split_nothing_is_memorized_by_chance() -> None:
    clean, observed, status = mislabeled(5, 60)
    targets = np.arange(50) % 5
    assert memorized_by_chance(targets, targets, clean, observed, status, 5) == 0.0


def test_uniform_guesses_memorize_one_in_c_by_chance() -> None:
    clean, observed, status = mislabeled(5, 60)
    pairs = np.array(list(itertools.product(range(5), range(5))))
    assert memorized_by_chance(pairs[:, 0], pairs[:, 1], clean, observed, status, 5) == pytest.approx(0.2)


def test_the_chance_is_the_expected_share_of_a_network_with_the_same_confusions() -> None:
    rng = np.random.default_rng(0)
    confusion = rng.dirichlet(np.full(4, 0.5), 4)
    clean, observed, status = mislabeled(4, 30_000)
    targets = np.repeat(np.arange(4), 10_000)
    test_prediction, train_prediction = (
        (rng.random((len(labels), 1)) > confusion[labels].cumsum(1)[:, :3]).sum(1) for labels in (targets, clean)
    )
    chance = memorized_by_chance(test_prediction, targets, clean, observed, status, 4)
    memorized = score_predictions(train_prediction, clean, observed, status)["memorized_fraction"]
    assert chance == pytest.approx(memorized, abs=0.01)


def test_images_of_no_class_have_the_chance_of_any_test_example() -> None:
    test_prediction, targets = np.array([0, 0, 0, 1]), np.array([0, 0, 0, 1])
    clean, observed, status = np.array([-1, 2]), np.array([1, 1]), np.array([2, 1], np.int8)
    assert memorized_by_chance(test_prediction, targets, clean, observed, status, 3) == 0.25


@given(seed=st.integers(0, 500), count=st.integers(2, 7))
@settings(deadline=None, max_examples=40)
def test_missed_at_the_true_rate_is_the_mean_over_all_orders_of_ties(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    score, wrong = rng.integers(0, 3, count) / 2, rng.random(count) < 0.5
    found = missed_at_true_rate(score, wrong)
    if not 0 < wrong.sum() < count:
        assert found is None
        return
    orders = [order for order in itertools.permutations(range(count)) if (np.diff(score[list(order)]) <= 0).all()]
    missed = [1 - wrong[list(order[: wrong.sum()])].mean() for order in orders]
    assert found == pytest.approx(np.mean(missed))


def test_missed_at_the_true_rate_ignores_labels_of_unknown_status_and_the_flags() -> None:
    score, status = np.array([0.9, 0.8, 0.7, 0.1]), np.array([3, 0, 1, 0], np.int8)
    found = score_detector(score, np.zeros(4, bool), status)
    assert (found["missed_at_true_rate"], found["recall"], found["precision"]) == (1.0, 0.0, None)
    assert score_detection(1 - score, status).missed_at_true_rate == 1.0


def test_the_auroc_of_each_kind_is_given_where_images_of_no_class_are() -> None:
    quality = np.array([0.9, 0.8, 0.2, 0.85, 0.1])
    one_kind = score_detection(quality, np.array([0, 0, 1, 1, 1], np.int8))
    assert (one_kind.auroc, one_kind.id_auroc, one_kind.ood_auroc) == (pytest.approx(5 / 6), None, None)
    both = score_detection(quality, np.array([0, 0, 1, 1, 2], np.int8))
    assert (both.auroc, both.id_auroc, both.ood_auroc) == (pytest.approx(5 / 6), 0.75, 1.0)


def test_precision_is_of_the_flags_and_recall_of_the_incorrect_labels() -> None:
    status, flagged = np.array([1, 1, 1, 1, 0, 0], np.int8), np.array([1, 0, 0, 0, 0, 0], bool)
    found = score_detector(np.arange(6.0), flagged, status)
    assert (found["precision"], found["recall"]) == (1.0, 0.25)


def rows(changes: Sequence[float | None]) -> list[EpochRow]:
    """Return rows whose test score is the number of the epoch in percent."""
    return [
        EpochRow(
            epoch,
            "train",
            1.0,
            0.5,
            None,
            None,
            epoch / 100,
            1.0,
            0.1,
            0.1,
            0.9,
            0.1,
            1.0,
            0,
            prediction_changes=change,
        )
        for epoch, change in enumerate(changes)
    ]


# Averages of three: .7 (epoch 3), .5, .4, .3 (epoch 6), .4, .5, .6, .5, .4 (patience over), .2, .1
DESCENDING_THEN_RISING = [None, 0.9, 0.7, 0.5, 0.3, 0.4, 0.2, 0.6, 0.7, 0.5, 0.3, 0.4, -0.1, 0.0]


def test_label_wave_selects_the_first_local_minimum_of_the_moving_average() -> None:
    assert LABEL_WAVE_PATIENCE == 5
    assert label_wave(rows(DESCENDING_THEN_RISING)) == 0.06


def test_label_wave_goes_beyond_a_minimum_that_ends_within_its_patience() -> None:
    changes = [*DESCENDING_THEN_RISING[:10], 0.1, 0.1, 0.1]
    assert label_wave(rows(changes)) == 0.12


def test_label_wave_keeps_the_earliest_of_equal_minima() -> None:
    assert label_wave(rows([None, 0.5, 0.5, 0.5, 0.5, 0.5])) == 0.03


def test_label_wave_needs_one_complete_average_and_no_validation_split() -> None:
    assert label_wave(rows([None, 0.9, 0.7])) is None
    assert label_wave(rows([None, 0.9, 0.7, 0.5])) == 0.03
    assert label_wave(rows([None, None, None, None, None])) is None, "tasks that do not measure the changes"


def test_the_epoch_is_selected_by_balanced_accuracy_as_well() -> None:
    unbalanced = [
        replace(row, noisy_val_score=score, test_balanced_accuracy=balanced, noisy_val_balanced_accuracy=validation)
        for row, score, balanced, validation in zip(rows([None, 0.5]), (0.9, 0.1), (0.3, 0.4), (0.2, 0.5), strict=True)
    ]
    assert noisy_val(unbalanced) == 0.0
    balanced_rows = score_by_balanced_accuracy(unbalanced)
    assert balanced_rows is not None
    assert noisy_val(balanced_rows) == 0.4
    assert balanced_rows[0].metric == "balanced_accuracy"
    assert score_by_balanced_accuracy(rows([None])) is None
