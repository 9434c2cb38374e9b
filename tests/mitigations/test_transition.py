"""The estimate of the transition matrix: right for many and for small classes, and refused where it cannot be right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from noisybench.errors import TrainingError, UserError
from noisybench.mitigations._transition import describe_implausible, estimate_transitions
from noisybench.mitigations.backward_correction import BackwardCorrection
from noisybench.mitigations.forward_correction import ForwardCorrection
from noisybench.mitigations.t_revision import TRevision
from noisybench.training.training_set import TrainingSet
from tests.helpers import prepared_toy, toy_dataset, toy_labels, train_toy


def symmetric(classes: int, rate: float) -> Tensor:
    eye = torch.eye(classes)
    return (1 - rate) * eye + rate / (classes - 1) * (1 - eye)


def pair(classes: int, rate: float) -> Tensor:
    return (1 - rate) * torch.eye(classes) + rate * torch.eye(classes).roll(1, 1)


def clean_classes(classes: int, imbalance: float = 1.0, size: int = 5000) -> Tensor:
    """Classes whose sizes fall geometrically, the last the given times smaller than the first."""
    shares = imbalance ** (-np.arange(classes) / (classes - 1))
    counts = np.maximum(1, np.round(shares / shares.sum() * size)).astype(int)
    return torch.arange(classes).repeat_interleave(torch.from_numpy(counts))


@pytest.mark.parametrize("imbalance", [1, 10, 100])
@pytest.mark.parametrize("classes", [2, 10, 20, 33, 40, 50, 100])
def test_a_perfect_network_gives_every_row(classes: int, imbalance: int) -> None:
    # A rate of 80 % has the largest difference between observed and true sizes of classes.
    for matrix in (symmetric(classes, 0.4), pair(classes, 0.4), symmetric(classes, 0.8 if classes > 5 else 0.3)):
        estimate = estimate_transitions(matrix[clean_classes(classes, imbalance)])
        torch.testing.assert_close(estimate, matrix)
        assert describe_implausible(estimate, 1) == ""


def test_a_class_of_two_percent_has_a_row_of_its_own() -> None:
    for share in (0.02, 0.029):
        small = round(share * 5000)
        counts = torch.tensor([small, *[(5000 - small) // 9] * 9])
        matrix = symmetric(10, 0.4)
        torch.testing.assert_close(estimate_transitions(matrix[torch.arange(10).repeat_interleave(counts)]), matrix)


def test_the_default_does_not_rest_on_the_most_confident_outlier() -> None:
    matrix, clean = symmetric(10, 0.4), clean_classes(10)
    predictions = matrix[clean]
    predictions[::500] = torch.eye(10)[clean[::500]]  # one example of each class is predicted with certainty
    torch.testing.assert_close(estimate_transitions(predictions), matrix)
    torch.testing.assert_close(estimate_transitions(predictions, 100), torch.eye(10))


def test_the_percentile_chooses_the_anchor_point() -> None:
    probability = torch.arange(101) / 100
    predictions = torch.stack([probability, 1 - probability], 1)
    for percentile in (100, 97, 60):
        wanted = [[percentile / 100, 1 - percentile / 100], [1 - percentile / 100, percentile / 100]]
        torch.testing.assert_close(estimate_transitions(predictions, percentile), torch.tensor(wanted))


@pytest.mark.parametrize("classes", [2, 5, 10, 100])
def test_noise_of_published_strength_is_plausible(classes: int) -> None:
    for fraction in (0.2, 0.5, 0.9):
        # Inclusive noise: a label is replaced by one of any class.
        assert describe_implausible(symmetric(classes, fraction * (1 - 1 / classes)), 1) == ""
    assert describe_implausible(pair(classes, 0.45), 1) == ""


@pytest.mark.parametrize("classes", [5, 10, 100])
def test_a_network_that_has_learned_nothing_is_implausible(classes: int) -> None:
    untrained = (0.1 * torch.randn(2000, classes, generator=torch.Generator().manual_seed(0))).softmax(1)
    assert f"{classes} of {classes} classes" in describe_implausible(estimate_transitions(untrained), 1)


@pytest.mark.parametrize("matrix", [torch.full((4, 4), 0.25), pair(3, 0.5), symmetric(10, 0.87)], ids=["0", "1", "2"])
def test_rows_that_decide_for_no_class_or_hardly_for_their_own_are_implausible(matrix: Tensor) -> None:
    assert f"implausible for {len(matrix)} of {len(matrix)} classes: 0, 1, 2" in describe_implausible(matrix, 1)


def test_a_percentile_that_no_class_example_reaches_is_refused_with_the_least_that_is_allowed() -> None:
    targets = clean_classes(100)
    data = TrainingSet(torch.zeros(len(targets), 1), targets, 100)
    network: Any = None
    (problem,) = ForwardCorrection(percentile=97.0).check_data(data, network, 0)
    assert problem == (
        "percentile: at 97, class 0 has no anchor point, because only 50 of 5000 labels are of it; leave percentile "
        "out, or set it to at least 99.02"
    )
    assert ForwardCorrection(percentile=99.02).check_data(data, network, 0) == []
    assert ForwardCorrection(percentile=100.0).check_data(data, network, 0) == []
    assert ForwardCorrection().check_data(data, network, 0) == []
    assert ForwardCorrection(percentile=97.0, matrix="oracle").check_data(data, network, 0) == []


def test_an_impossible_percentile_is_refused_before_training() -> None:
    labels = toy_labels(toy_dataset(), wrong_every=0)
    labels.train[labels.train == 3] = 4
    labels.train[0] = 3
    with pytest.raises(UserError, match=r"percentile: at 97, class 3 has no anchor point, because only 1 of 120"):
        prepared_toy({"name": "forward_correction", "warmup_epochs": 1, "percentile": 97}, toy_dataset(), labels)


def test_an_implausible_estimate_stops_the_run_unless_it_is_allowed(tmp_path: Path) -> None:
    budget = {"learning_rate": 1e-4}  # nothing is learned in the warm-up
    stack = {"name": "backward_correction", "warmup_epochs": 1}
    message = (
        r"mitigations.backward_correction: the matrix estimated after 1 epochs is implausible for \d+ of 10 classes: "
        r".*matrix=oracle.*implausible=warn"
    )
    with pytest.raises(TrainingError, match=message):
        train_toy(prepared_toy(stack, budget=budget), tmp_path / "refused")
    rows = train_toy(prepared_toy({**stack, "implausible": "warn"}, budget=budget), tmp_path / "allowed").rows
    assert [len(row.warnings) for row in rows] == [0, 1, 0]
    assert "implausible for" in rows[1].warnings[0]


def test_a_diverging_corrected_loss_is_not_blamed_on_the_learning_rate_alone(tmp_path: Path) -> None:
    budget = {"learning_rate": 1e5, "network": "mlp:16", "epochs": 6}
    message = (
        r"the (training loss|predictions) became \S+ in epoch \d; the loss of backward_correction has no lower bound, and its "
        r"inverse matrix amplifies losses up to 2 times: use forward_correction; or decrease budget.learning_rate"
    )
    with pytest.raises(TrainingError, match=message):
        train_toy(prepared_toy({"name": "backward_correction", "matrix": "oracle"}, budget=budget), tmp_path / "oracle")
    with pytest.raises(TrainingError, match=r"in epoch \d; decrease budget.learning_rate"):
        train_toy(prepared_toy("cross_entropy", budget={**budget, "learning_rate": 1e30}), tmp_path / "plain")
    assert BackwardCorrection().explain_divergence() == ""


def test_a_revision_that_loses_the_diagonal_is_refused() -> None:
    lost = {"matrix": torch.tensor([[0.8, 0.2], [0.3, 0.7]]), "revised": torch.tensor([[0.0, 1.0], [0.3, 0.7]])}
    mitigation = TRevision(revision_learning_rate=10.0)
    mitigation.state = lost
    message = "t_revision: the revised matrix has zeros on the diagonal for class 0; decrease revision_learning_rate, which is 10"
    with pytest.raises(TrainingError, match=message):
        mitigation._check_diagonal()
    allowed = TRevision(implausible="warn")
    allowed.state = lost
    allowed._check_diagonal()
    assert allowed.warnings == ["the revised matrix has zeros on the diagonal for class 0"]
    # A class that never kept its label before the revision has lost nothing.
    allowed.state = {**lost, "matrix": lost["revised"]}
    allowed._check_diagonal()
    assert len(allowed.warnings) == 1


class Predicting:
    """A task after its warm-up, with given predictions."""

    current_epoch = 1

    def __init__(self, predictions: Tensor, targets: Tensor) -> None:
        self.predictions = predictions
        self.training_set = TrainingSet(torch.zeros(len(targets), 1), targets, predictions.shape[1])

    def training_probabilities(self) -> Tensor:
        return self.predictions


def test_a_class_that_is_never_observed_keeps_the_identity() -> None:
    matrix, clean = symmetric(5, 0.2), clean_classes(4, size=400)
    predictions = torch.cat([matrix[clean][:, :4], torch.zeros(400, 1)], 1)
    task: Any = Predicting(predictions / predictions.sum(1, keepdim=True), clean)
    mitigation = ForwardCorrection(warmup_epochs=1)
    mitigation.on_epoch_start(task)
    assert mitigation.state["matrix"][4].tolist() == [0, 0, 0, 0, 1]
    assert mitigation.warnings == []


def test_the_posterior_is_bayes_rule() -> None:
    # Not symmetric: of class 0, 30 % are observed as 1; of class 1, 10 % as 0.
    matrix = torch.tensor([[0.7, 0.3], [0.1, 0.9]])
    targets = torch.tensor([0, 1])
    task: Any = Predicting(torch.tensor([[0.4, 0.6], [0.4, 0.6]]), targets)
    mitigation = BackwardCorrection()
    mitigation.state["matrix"] = matrix
    quality = mitigation.label_quality(task, task.training_set)
    assert quality is not None
    # P(clean 0 | observed 0) = .4 * .7 / (.4 * .7 + .6 * .1), and P(clean 1 | observed 1) = .6 * .9 / (.6 * .9 + .4 * .3).
    torch.testing.assert_close(quality, torch.tensor([0.28 / 0.34, 0.54 / 0.66]))
    likely = torch.tensor([[0.2, 0.8], [0.2, 0.8]])
    task.predictions = likely
    corrected = mitigation.corrected_labels(task, task.training_set)
    assert corrected is not None
    # For an observed 0: .2 * .7 against .8 * .1; with the transpose, .2 * .7 against .8 * .3, it would be class 1.
    assert corrected.tolist() == [0, 1]
