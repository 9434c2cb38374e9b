"""Scores of training examples against the authors' code."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from noisybench.mitigations._scores import ScoreCollector, error_norms, gradient_norms
from noisybench.mitigations.confident_learning import ConfidentLearning
from noisybench.mitigations.forgetting import Forgetting
from noisybench.mitigations.trimmed_loss import TrimmedLoss
from noisybench.training.batch import Batch
from noisybench.training.training_set import TrainingSet
from tests.golden.generators.data_diet import examples, network
from tests.golden.vectors import load_golden


def watched(epochs: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The statistics of (E, N, C) logits of all examples in every epoch."""
    collector, (count, classes) = ScoreCollector(), epochs.shape[1:]
    data: Any = range(count)
    collector.prepare(None, data)  # type: ignore[arg-type]
    for logits in epochs:
        task: Any = SimpleNamespace(logits=lambda inputs, logits=logits: logits)
        collector.loss(task, Batch({"weak": torch.zeros(1)}, labels, torch.arange(count), classes))
    return collector.state


def test_margins_are_the_areas_of_the_authors_library() -> None:
    golden = load_golden("aum")
    state = watched(golden.tensor("logits"), golden.tensor("labels"))
    torch.testing.assert_close((state["margin"] / state["seen"]).double(), golden.tensor("areas"), rtol=0, atol=1e-6)


def test_forgetting_counts_are_the_authors() -> None:
    golden = load_golden("forgetting")
    states = []
    for correct in golden.tensor("correct"):
        # The label of every example is 1; its score is above that of class 0 where the prediction is correct.
        scores = torch.stack([torch.zeros(correct.shape), correct.float() - 0.5], -1)
        states.append(watched(scores, torch.ones(correct.shape[1], dtype=torch.int64)))
    dynamics = {name: torch.stack([state[name] for state in states]) for name in ("forgotten", "learned")}
    task: Any = SimpleNamespace(auxiliary=lambda run: dynamics, budget=SimpleNamespace(epochs=9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("noisybench.mitigations.forgetting.TrainingDynamics", lambda *_: None)
        counts = Forgetting(num_networks=2).score(task, None)  # type: ignore[arg-type]
    # The authors add the counts of the networks.
    assert (2 * counts).tolist() == golden["counts"].tolist()


def test_error_norms_and_gradient_norms_are_the_authors() -> None:
    golden = load_golden("data_diet")
    model, (inputs, labels) = network(), examples()
    probabilities = model(inputs).softmax(1)
    torch.testing.assert_close(error_norms(probabilities, labels), golden.tensor("el2n"), rtol=0, atol=1e-12)
    task: Any = SimpleNamespace(
        training_set=TrainingSet(inputs, labels, 5),
        networks=[model],
        eval_batch_size=lambda inputs: 7,
        normalize=lambda inputs: inputs,
        device="cpu",
    )
    # The loss is in single precision.
    torch.testing.assert_close(gradient_norms(task).double(), golden.tensor("grand"), rtol=2e-6, atol=0)


def test_confident_learning_is_cleanlabs() -> None:
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 60)
    logits = rng.normal(size=(60, 4)) + 4 * np.eye(4)[np.where(rng.random(60) < 0.3, rng.integers(0, 4, 60), labels)]
    predictions = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    of_fold = torch.arange(60) % 3 == torch.arange(3)[:, None]
    task: Any = SimpleNamespace(
        auxiliary=lambda run: {"predicted": torch.from_numpy(predictions) * of_fold[..., None]},
        budget=SimpleNamespace(epochs=1),
    )
    data = TrainingSet(torch.zeros(60, 1), torch.from_numpy(labels), 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("noisybench.mitigations.confident_learning._OutOfSamplePredictions", lambda *_: None)
        mitigation = ConfidentLearning(folds=3)
        score = mitigation.score(task, data)
    flags, _ = mitigation.flag(task, score)
    issues = find_label_issues(labels, predictions, n_jobs=1)
    assert 5 < issues.sum() < 30
    assert flags.tolist() == issues.tolist()
    wanted = 1 - get_label_quality_scores(labels, predictions, method="normalized_margin")
    torch.testing.assert_close(score, torch.from_numpy(wanted), rtol=0, atol=0)


def test_examples_kept_over_an_epoch_are_the_authors() -> None:
    golden = load_golden("trimmed_loss")
    losses = golden.tensor("losses").float()
    for number, fraction in enumerate(golden["fractions"].tolist()):
        mitigation = TrimmedLoss(among="epoch", drop_fraction=1 - fraction, ramp_epochs=1)
        data: Any = range(50)
        mitigation.prepare(None, data)  # type: ignore[arg-type]
        mitigation.state["sums"], mitigation.state["counts"] = losses.clone(), torch.ones(50)
        task: Any = SimpleNamespace(current_epoch=0, budget=SimpleNamespace(epochs=5))
        mitigation.on_epoch_end(task)
        assert mitigation.state["kept"].tolist() == golden["kept"][number].tolist()


def test_the_fraction_that_is_left_out_is_that_of_the_next_epoch() -> None:
    mitigation = TrimmedLoss(among="epoch", drop_fraction=0.4, ramp_epochs=4)
    data: Any = range(50)
    mitigation.prepare(None, data)  # type: ignore[arg-type]
    kept = []
    for epoch in range(5):
        mitigation.state["sums"], mitigation.state["counts"] = torch.arange(50.0), torch.ones(50)
        mitigation.on_epoch_end(SimpleNamespace(current_epoch=epoch, budget=SimpleNamespace(epochs=9)))  # type: ignore[arg-type]
        kept.append(int(mitigation.state["kept"].sum()))
    # The first epoch leaves out nothing; then a quarter of 0.4 more in each epoch, up to 0.4.
    assert kept == [45, 40, 35, 30, 30]


@pytest.mark.parametrize("labeled", [1, 2, 3])
def test_kept_labels_of_a_batch_are_scaled_up_by_the_inverse_of_their_fraction(labeled: int) -> None:
    mitigation = TrimmedLoss(among="epoch", drop_fraction=0.4)
    data = TrainingSet(torch.zeros(6, 1, 1, 1, dtype=torch.uint8), torch.zeros(6, dtype=torch.long), 2)
    mitigation.prepare(None, data)  # type: ignore[arg-type]
    mitigation.state["kept"][1] = False
    has_label = torch.arange(6) < labeled
    batch = Batch({"weak": data.inputs}, data.targets, torch.arange(6), 2, has_label=has_label)
    task: Any = SimpleNamespace(training_set=data)
    weights = mitigation.wrap_loss(task, batch, lambda batch: torch.ones(6))
    kept = mitigation.state["kept"].float()
    torch.testing.assert_close(weights, kept * labeled / kept[:labeled].sum())
