"""DivideMix against the authors' training steps, divisions and predictions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from noisybench.mitigations.dividemix import DivideMix
from noisybench.mitigations.ensemble import Ensemble
from noisybench.training.batch import Batch
from noisybench.training.stack import Stack
from noisybench.training.training_set import TrainingSet
from tests.golden.generators.dividemix import CLASSES, SIZE, WARMUP, flat, small_network
from tests.golden.vectors import Golden, load_golden

GOLDEN = load_golden("dividemix")


def networks(golden: Golden) -> nn.ModuleList:
    """Return both networks with the weights that the authors' started from."""
    both = nn.ModuleList([small_network(), small_network()])
    for network, values in zip(both, golden.tensor("first"), strict=True):
        position = 0
        for name, tensor in network.state_dict().items():
            if "num_batches" not in name:
                tensor.copy_(values[position : position + tensor.numel()].view_as(tensor))
                position += tensor.numel()
    return both


def learner(both: nn.ModuleList, epoch: int, mix_weight: float = 0.5) -> Any:
    return SimpleNamespace(
        networks=both, current_epoch=epoch, logits=lambda inputs, network: both[network](inputs), generator=None,
        rng=SimpleNamespace(beta=lambda first, second: mix_weight),
    )  # fmt: skip


def our_partner(partner: torch.Tensor) -> torch.Tensor:
    """Return a permutation of the authors' order (views of labeled, then of unlabeled examples) in our order (by view)."""
    blocks = torch.arange(4 * SIZE).view(4, SIZE)[[0, 2, 1, 3]].flatten()
    ours = torch.empty_like(partner)
    ours[blocks] = blocks[partner]
    return ours


@pytest.mark.parametrize("setting", range(3))
def test_two_steps_come_to_the_authors_weights_and_statistics(setting: int, monkeypatch: pytest.MonkeyPatch) -> None:
    both, images = networks(GOLDEN), GOLDEN.tensor("images")
    mitigation = DivideMix(warmup_epochs=WARMUP, unlabeled_weight=float(GOLDEN["unlabeled_weights"][setting]))
    # Labeled examples come first; the posteriors of the others are not read.
    clean = torch.cat([GOLDEN.tensor("clean").flatten(), torch.zeros(2 * SIZE)])
    mitigation.state = {"clean": torch.stack([torch.zeros(4 * SIZE), clean])}
    mitigation._num_labeled, mitigation._num_steps, mitigation._steps_done = [SIZE, SIZE], [3, 3], [0, 0]
    optimizer = torch.optim.SGD(both[0].parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for step in range(2):
        first, second, unlabeled_first, unlabeled_second = images[step]
        views = {"weak": torch.cat([first, unlabeled_first]), "weak_2": torch.cat([second, unlabeled_second])}
        observed = torch.cat([GOLDEN.tensor("labels")[step], torch.zeros(SIZE, dtype=torch.long)])
        index = torch.cat([torch.arange(SIZE), 2 * SIZE + torch.arange(SIZE)]) + step * SIZE
        partner = our_partner(GOLDEN.tensor("partner")[2 * setting + step])
        monkeypatch.setattr(torch, "randperm", lambda *_, partner=partner, **__: partner)
        task = learner(both, WARMUP + 3, float(GOLDEN["mix_weight"][2 * setting + step]))
        loss = mitigation.loss(task, Batch(views, observed, index, CLASSES, phase=0)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    np.testing.assert_allclose(flat(both[0]), GOLDEN["trained"][setting], rtol=0, atol=5e-7)
    np.testing.assert_array_equal(flat(both[1]), GOLDEN["first"][1])


def test_the_warm_up_for_asymmetric_noise_is_the_authors() -> None:
    both = networks(GOLDEN)
    mitigation = DivideMix(warmup_epochs=1, confidence_penalty=True)
    mitigation._num_labeled = [SIZE, SIZE]
    optimizer = torch.optim.SGD(both[0].parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    batch = Batch(
        {"weak": GOLDEN.tensor("warmup_images")}, GOLDEN.tensor("warmup_labels"), torch.arange(SIZE), CLASSES, phase=0
    )
    mitigation.loss(learner(both, 0), batch).mean().backward()
    optimizer.step()
    np.testing.assert_allclose(flat(both[0]), GOLDEN["warmed_up"], rtol=0, atol=5e-7)


@pytest.mark.parametrize(("case", "history"), [(0, 1), (1, 5)])
def test_the_posteriors_and_the_division_are_the_authors(case: int, history: int) -> None:
    observed, scores = GOLDEN.tensor("observed"), GOLDEN.tensor("scores")
    data = TrainingSet(torch.zeros(len(observed), 1, 1, 1, dtype=torch.uint8), observed, 3)
    mitigation = DivideMix(warmup_epochs=1, loss_history=history)
    mitigation.prepare(None, data)  # type: ignore[arg-type]
    for epoch in range(len(scores)):
        task: Any = SimpleNamespace(
            current_epoch=epoch, training_set=data, budget=SimpleNamespace(epochs=99),
            training_outputs=lambda network, epoch=epoch: SimpleNamespace(logits=scores[epoch]),
        )  # fmt: skip
        mitigation.on_epoch_end(task)
        found, wanted = mitigation.state["clean"][0].numpy(), GOLDEN["posteriors"][case, epoch]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=5e-6)
        for threshold in (0.5, 0.6):
            np.testing.assert_array_equal(found > threshold, wanted > threshold)


def test_two_networks_predict_the_class_of_the_authors_summed_scores() -> None:
    scores, predicted = GOLDEN.tensor("ensemble_scores"), GOLDEN.tensor("predicted")
    assert torch.equal(Stack([DivideMix()]).combine(list(scores)).argmax(1), predicted)
    by_probabilities = Stack([Ensemble()]).combine(list(scores)).argmax(1)
    assert not torch.equal(by_probabilities, predicted), "the mean of the probabilities is another rule"
