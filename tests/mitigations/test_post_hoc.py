"""Classifiers put on trained features: Gaussians and truncated spectra."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from noisybench.errors import UserError
from noisybench.evaluation.metrics import label_directions, score_classifier
from noisybench.mitigations._feature_classifiers import (
    extract_features,
    gaussian_classifier,
    predict_linear,
    replace_classifier,
)
from noisybench.mitigations.mahalanobis import (
    Mahalanobis,
    class_moments,
    closest_subset,
    first_subset,
    pseudo_inverse,
    robust_moments,
)
from noisybench.mitigations.spectral_truncation import _controls
from noisybench.nn.spectrum import spectrum_of
from noisybench.utils.seeds import Stream
from tests.helpers import close, generator, labeled_points, prepared_toy, toy_dataset, toy_labels, train_toy
from tests.mitigations.test_pruning import toy_task


def test_the_shared_covariance_is_scikit_learns_discriminant() -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    points, targets = labeled_points(count=400)
    reference = LinearDiscriminantAnalysis(solver="lsqr", priors=np.full(4, 0.25)).fit(points.numpy(), targets.numpy())
    found = spectrum_of(points, targets, 4)
    close(found.class_means(), reference.means_, 1e-8)
    weights, bias = Mahalanobis()._classifier(found, points, targets, 0)
    assert (predict_linear(points, weights, bias).numpy() == reference.predict(points.numpy())).mean() > 0.99
    wanted = torch.from_numpy(reference.decision_function(points.numpy()))
    scores = points @ weights.T + bias
    close((scores - scores.mean(1, keepdim=True)).softmax(1), (wanted - wanted.mean(1, keepdim=True)).softmax(1), 0.05)


def test_nearest_means_are_nearest() -> None:
    points, targets = labeled_points()
    found = spectrum_of(points, targets, 4)
    weights, bias = Mahalanobis(covariance="identity")._classifier(found, points, targets, 0)
    means = torch.stack([points[targets == each].mean(0) for each in range(4)])
    assert torch.equal(predict_linear(points, weights, bias), torch.cdist(points, means).argmin(1))
    distances = torch.cdist(points, means) ** 2
    scores = (
        points @ gaussian_classifier(means, torch.eye(12).double())[0].T
        + gaussian_classifier(means, torch.eye(12).double())[1]
    )
    close(scores - scores[:, :1], -0.5 * (distances - distances[:, :1]), 1e-7)


def test_a_robust_mean_stays_where_most_are() -> None:
    points, targets = labeled_points(count=800, width=3)
    moved = points.clone()
    moved[:100] += 100
    plain = spectrum_of(moved, targets, 4).class_means()
    robust, _ = robust_moments(moved, targets, plain)
    right = torch.stack([points[targets == each].mean(0) for each in range(4)])
    assert (robust - right).norm(dim=1).max() < 0.5 < (plain - right).norm(dim=1).min()


def test_a_selection_by_distance_drops_what_is_far() -> None:
    points, targets = labeled_points(count=800, width=3)
    moved = points.clone()
    moved[:100] += 100
    plain = spectrum_of(moved, targets, 4).class_means()
    order = torch.arange(800).flip(0)
    start, covariance = class_moments(moved, targets, plain, first_subset(targets, order))
    kept = closest_subset(moved, targets, start, pseudo_inverse(covariance))
    assert not kept[:100].any()
    assert torch.bincount(targets[kept]).tolist() == [int(0.7 * count) for count in torch.bincount(targets)]


def test_the_covariance_of_a_class_counts_by_its_size() -> None:
    from sklearn.covariance import MinCovDet

    points, targets = torch.randn(330, 2, dtype=torch.float64, generator=generator()), torch.arange(330) // 300
    points[300:] *= 10
    parts = [points[:300], points[300:]]
    _, pooled = robust_moments(points, targets, torch.zeros(2, 2).double())
    covariances = [torch.from_numpy(MinCovDet(random_state=0).fit(part.numpy()).covariance_) for part in parts]
    close(pooled, (300 * covariances[0] + 30 * covariances[1]) / 330, 1e-9)
    _, pooled = class_moments(points, targets, torch.zeros(2, 2).double(), torch.ones(330, dtype=torch.bool))
    close(pooled, (300 * parts[0].T.cov(correction=0) + 30 * parts[1].T.cov(correction=0)) / 330, 1e-9)


@pytest.mark.parametrize("covariance", ["empirical", "rog", "mcd", "identity"])
def test_a_class_without_examples_is_never_predicted(covariance: Any) -> None:
    points, targets = labeled_points(count=400, width=3)
    weights, bias = Mahalanobis(covariance=covariance)._classifier(spectrum_of(points, targets, 5), points, targets, 0)
    everywhere = torch.cat([points, points.mean(0).expand(1, -1), 1e5 * torch.randn(50, 3, generator=generator())])
    predicted = predict_linear(everywhere, weights, bias)
    assert predicted.max() < 4
    assert bool(bias.isfinite().all())


def test_too_few_examples_for_a_robust_covariance_are_named() -> None:
    points, targets = labeled_points(count=30)
    with pytest.raises(ValueError, match=r"class \d has \d+ examples, but 12 dimensions"):
        robust_moments(points, targets, torch.zeros(4, 12).double())


# In a run


def test_what_a_classifier_is_worth_by_hand() -> None:
    clean, observed = np.array([0, 0, 1, 1, -1]), np.array([0, 1, 1, 0, 0])
    states = np.array([0, 1, 0, 1, 2], dtype=np.int8)
    found = score_classifier(
        np.array([0, 0, 1, 0, 0]),
        np.array([1, 1]),
        np.array([0, 1]),
        clean,
        observed,
        np.array([1, 0]),
        np.array([0, 0]),
        states,
    )
    assert found.test_accuracy == 0.5
    assert found.noisy_val_accuracy == 0.5
    assert found.clean_accuracy == 3 / 4
    assert found.noisy_accuracy == 4 / 5
    assert found.memorized_fraction == 2 / 3
    assert found.recovered_fraction == 1 / 2


def test_signal_and_noise_of_labels_by_hand() -> None:
    signal, noise = label_directions(np.array([0, 0, 1, -1]), np.array([0, 1, 1, 1]), 2)
    np.testing.assert_allclose(signal, [[1 / 3, -1 / 3], [1 / 3, -1 / 3], [-2 / 3, 2 / 3], [0, 0]])
    np.testing.assert_allclose(noise, [[0.5, -0.5], [-0.5, 0.5], [0, 0], [0, 0]])


def test_a_full_rank_head_is_the_trained_classifier(tmp_path: Path) -> None:
    recorder = train_toy(prepared_toy({"name": "spectral_truncation", "mode": "head", "rank": 128}), tmp_path)
    before, after = recorder.rows[-2], recorder.rows[-1]
    assert (before.stage, after.stage) == ("train", "refine")
    assert after.test_score == before.test_score
    assert after.test_loss == pytest.approx(before.test_loss, abs=1e-5)


def test_a_probe_is_recorded_and_drawn_and_changes_no_weight(tmp_path: Path) -> None:
    stack = {"name": "spectral_truncation", "rank": 15}
    plain = train_toy(prepared_toy(stack), tmp_path / "plain")
    probed = train_toy(prepared_toy({**stack, "probe_epochs": [0, 1]}), tmp_path / "probed")
    assert plain.record({}).weights_sha256 == probed.record({}).weights_sha256
    assert [row.epochs for row in plain.probes] == [3]
    assert [row.epochs for row in probed.probes] == [0, 1, 3]
    end = probed.probes[-1]
    assert set(end.controls) == {
        "full_rank_ridge", "nearest_class_mean", "random_projection", "rest_of_components", "untrained_ridge",
        "untrained_truncated",
    }  # fmt: skip
    at_rank = dict(zip(end.positions, end.metrics, strict=True))[15]
    assert at_rank.test_accuracy == probed.rows[-1].test_score
    assert end.noise_energy is not None
    assert end.noise_energy == sorted(end.noise_energy)
    record = probed.record({})
    assert type(record).from_dict(record.as_dict()).probes == probed.probes
    probed.write(record, tmp_path / "files")
    assert (tmp_path / "files" / "probe_spectral_truncation.png").stat().st_size > 20_000


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        ({"name": "spectral_truncation", "rank": 129}, "have 128 dimensions, but rank is 129"),
        ({"name": "spectral_truncation", "mode": "head", "features": "untrained"}, "untrained network cannot classify"),
        ({"name": "spectral_truncation", "probe_epochs": [1, 9]}, r"from 0 to 3, but got \[9\]"),
        ({"name": "mahalanobis", "rank": 129}, "have 128 dimensions, but rank is 129"),
        (
            {"name": "mahalanobis", "covariance": "mcd", "rank": 40},
            r"class \d has \d+ examples, too few for the minimum covariance determinant of 40 dimensions",
        ),
        ({"name": "mahalanobis"}, "120 examples are too few for the covariance of 128 dimensions"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_training(stack: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepared_toy(stack)


def test_a_rank_cannot_be_chosen_without_a_validation_split() -> None:
    import dataclasses

    dataset = toy_dataset()
    empty = dataclasses.replace(dataset.validation, **{
        name: getattr(dataset.validation, name)[:0] for name in ("inputs", "targets", "index")
    })  # fmt: skip
    dataset = dataclasses.replace(dataset, validation=empty)
    with pytest.raises(UserError, match="selected on the noisy validation split, but there is none"):
        prepared_toy("spectral_truncation", dataset, toy_labels(dataset))


@pytest.mark.parametrize("bias", [True, False])
def test_a_replaced_classifier_is_the_one_given(bias: bool) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 2, bias=bias))
    replace_classifier(network, torch.ones(2, 3), torch.ones(2))
    assert torch.equal(network(torch.ones(1, 3)), torch.full((1, 2), 4.0))


def test_gaussians_on_the_features_are_measured_in_a_row_of_their_own(tmp_path: Path) -> None:
    recorder = train_toy(prepared_toy({"name": "mahalanobis", "covariance": "identity"}), tmp_path)
    assert [row.stage for row in recorder.rows] == ["train"] * 3 + ["refine"]
    assert recorder.rows[-1].test_loss != recorder.rows[-2].test_loss


def test_the_untrained_control_is_the_network_that_training_starts_from() -> None:
    task = toy_task()
    data = task.training_set
    features = extract_features(task, task.networks[0], data.inputs)
    found = spectrum_of(features, data.targets, data.num_classes)
    classifiers: Any = SimpleNamespace(spectrum=found, targets=data.targets, points=features)
    predicted = _controls(task, data, classifiers)["untrained_ridge"](data.inputs, features)
    assert torch.equal(predicted, predict_linear(features, *found.least_squares(len(found.values), 1.0)))


@pytest.mark.parametrize(("covariance", "rank"), [("empirical", None), ("rog", 6), ("mcd", 8)])
def test_a_covariance_needs_more_examples_than_dimensions(covariance: Any, rank: int | None) -> None:
    network, size = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8, 3)), rank or 8
    budget = SimpleNamespace(network="linear")
    mitigation = Mahalanobis(covariance=covariance, rank=rank)
    (problem,) = mitigation.check(network, budget, size)
    assert problem.startswith(f"rank: {size} examples are too few for the covariance of {size} dimensions")
    assert mitigation.check(network, budget, size + 1) == []
    assert Mahalanobis(covariance="identity").check(network, budget, 1) == []


def test_controls_are_the_ridge_and_the_truncated_regression() -> None:
    task = toy_task()
    data = task.training_set
    features = extract_features(task, task.networks[0], data.inputs)
    found = spectrum_of(features, data.targets, data.num_classes)
    controls = _controls(task, data, cast(Any, SimpleNamespace(spectrum=found, targets=data.targets, points=features)))
    width, classes = features.shape[1], data.num_classes
    assert width > 4 * classes

    def scores(values: torch.Tensor, kept: int, penalty: float) -> torch.Tensor:
        return predict_linear(values, *spectrum_of(values, data.targets, classes).least_squares(kept, penalty))

    found_scores = {name: control(data.inputs, features) for name, control in controls.items()}
    assert torch.equal(found_scores["full_rank_ridge"], scores(features, width, 1.0))
    assert torch.equal(found_scores["untrained_truncated"], scores(features, 4 * classes, 0.0))
    directions = torch.linalg.qr(torch.from_numpy(Stream("projection", task.seed).normal(width, round(1.5 * classes))))[
        0
    ].to(features.double())
    assert torch.equal(
        found_scores["random_projection"], scores(features.double() @ directions, round(1.5 * classes), 0.0)
    )
