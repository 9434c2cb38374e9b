"""Votes of nearest neighbors in runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from noisybench.data.dataset import Dataset
from noisybench.errors import UserError
from noisybench.nn import neighbors
from noisybench.runs.recorder import Recorder
from tests.helpers import prepared_toy, toy_dataset, toy_labels, train_toy

FEATURES: dict[str, Any] = {"task": "transfer", "budget": {"network": "features", "epochs": 2}}


def toy_features() -> Dataset:
    """The toy images as features."""
    images = toy_dataset()
    splits = {
        name: dataclasses.replace(
            getattr(images, name),
            inputs=getattr(images, name).inputs.reshape(-1, 64, 1, 1).astype(np.float32) / 255 - 0.3,
        )
        for name in ("train", "validation", "test")
    }
    return dataclasses.replace(images, **splits)


def final(recorder: Recorder) -> dict[str, Any]:
    found: dict[str, Any] = recorder.evaluator._final  # type: ignore[attr-defined]
    return found


def test_a_run_predicts_what_scikit_learn_does_and_no_example_votes_for_itself(tmp_path: Path) -> None:
    dataset = toy_features()
    labels = toy_labels(dataset)
    recorder = train_toy(prepared_toy({"name": "knn", "neighbors": 7}, dataset, labels, **FEATURES), tmp_path)
    train, test = dataset.train.inputs.reshape(-1, 64), dataset.test.inputs.reshape(-1, 64)
    reference = KNeighborsClassifier(7, metric="cosine", algorithm="brute").fit(train, labels.train)
    found = final(recorder)
    np.testing.assert_allclose(found["test"], reference.predict_proba(test), atol=1e-5)
    nearest = reference.kneighbors(return_distance=False)
    quality = (labels.train[nearest] == labels.train[:, None]).mean(1)
    np.testing.assert_allclose(found["label_quality"], quality, atol=1e-6)
    np.testing.assert_allclose(found["detectors"]["knn"].score, 1 - quality, atol=1e-6)
    assert [row.stage for row in recorder.rows] == ["train", "train", "refine"]
    # The network that is trained before predicts as it does without neighbors.
    plain = train_toy(prepared_toy("cross_entropy", dataset, labels, **FEATURES), tmp_path / "plain")
    assert [row.test_score for row in recorder.rows[:2]] == [row.test_score for row in plain.rows]


def test_neighbors_of_equal_features_are_searched_once_for_all_labels_and_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches: list[int] = []
    search = neighbors.nearest_neighbors
    for module in ("noisybench.mitigations._neighbor_search", "noisybench.nn.neighbors"):
        monkeypatch.setattr(
            f"{module}.nearest_neighbors", lambda *given: searches.append(len(given[0])) or search(*given)
        )
    dataset = toy_features()
    for seed, wrong_every in ((0, 4), (1, 4), (0, 3)):
        run = prepared_toy("knn", dataset, toy_labels(dataset, wrong_every), seed=seed, **FEATURES)
        recorder = train_toy(run, tmp_path)
        (cost,) = recorder.auxiliary_costs
        assert cost.title == "20 nearest neighbors · 120 examples"
        assert cost.cached == (len(searches) > 0 and (seed, wrong_every) != (0, 4))
    # Training, validation and test examples.
    assert sorted(searches) == [40, 40, 120]


def test_features_of_a_frozen_backbone_are_searched_before_training(tmp_path: Path) -> None:
    dataset = toy_features()
    runs = [train_toy(prepared_toy(stack, dataset, **FEATURES), tmp_path) for stack in ("knn", "linear_probe+knn")]
    assert [cost.cached for run in runs for cost in run.auxiliary_costs] == [False, True]
    assert np.array_equal(final(runs[0])["test"], final(runs[1])["test"])


@pytest.mark.parametrize("stack", ["knn", "co_teaching+knn", "mixup+knn"])
def test_trained_features_of_any_network_are_compared(stack: str, tmp_path: Path) -> None:
    recorder = train_toy(prepared_toy(stack), tmp_path)
    row = recorder.rows[-1]
    assert row.stage == "refine"
    assert row.test_score is not None
    assert row.test_score > 0.15
    assert set(final(recorder)["detectors"]) >= {"knn"}


def test_examples_that_are_left_out_do_not_vote(tmp_path: Path) -> None:
    dataset = toy_features()
    labels = toy_labels(dataset)
    recorder = train_toy(prepared_toy("oracle_pruning+knn(neighbors=5)", dataset, labels, **FEATURES), tmp_path)
    kept = labels.train == dataset.train.targets
    assert 0 < kept.sum() < 120
    train, test = dataset.train.inputs.reshape(-1, 64), dataset.test.inputs.reshape(-1, 64)
    reference = KNeighborsClassifier(5, metric="cosine", algorithm="brute").fit(train[kept], labels.train[kept])
    np.testing.assert_allclose(final(recorder)["test"], reference.predict_proba(test), atol=1e-5)
    shares = reference.predict_proba(train[~kept])
    wanted = shares[np.arange(len(shares)), labels.train[~kept]]
    np.testing.assert_allclose(final(recorder)["label_quality"][~kept], wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        ({"name": "knn", "neighbors": 120}, "120 examples have at most 119 neighbors each, but neighbors is 120"),
        ("knn+mahalanobis(covariance=identity)", "knn and mahalanobis both replace the trained classifier"),
    ],
)
def test_neighbors_that_cannot_be_found_are_refused(stack: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepared_toy(stack)
