"""Losses with peers against a training step of their authors' code."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from noisybench.mitigations.f_divergence import DIVERGENCES, FDivergence
from noisybench.mitigations.peer_loss import PeerLoss
from noisybench.training.batch import Batch
from noisybench.training.roles import LossFunction
from tests.golden.vectors import Golden, load_golden

SIZE, CLASSES = 16, 5


def step_gradient(golden: Golden, mitigation: LossFunction, epoch: int, epochs: int = 300) -> Tensor:
    """The gradient of the mean loss by the weights of a linear network, for a batch and its peers."""
    weights, index = golden.tensor("weights").requires_grad_(), torch.arange(SIZE)
    # The observed labels of the peers' own examples must not be read.
    drawn = Batch({"weak": golden.tensor("peer_inputs")}, torch.full((SIZE,), -1), index, CLASSES)
    task: Any = SimpleNamespace(
        logits=lambda inputs: inputs @ weights.T,
        draw=lambda count: drawn,
        sampler=SimpleNamespace(draw=lambda count, generator: index),
        training_set=SimpleNamespace(targets=golden.tensor("peer_labels")),
        generator=None,
        current_epoch=epoch,
        budget=SimpleNamespace(epochs=epochs),
    )
    loss = mitigation.loss(task, Batch({"weak": golden.tensor("inputs")}, golden.tensor("labels"), index, CLASSES))
    assert loss.shape == (SIZE,)
    (gradient,) = torch.autograd.grad(loss.mean(), weights)
    return gradient


@pytest.mark.parametrize("schedule", ["uniform", "sparse"])
def test_peer_loss_is_the_authors(schedule: str) -> None:
    golden, mitigation = load_golden("peer_loss"), PeerLoss(schedule=schedule)
    for number, epoch in enumerate(golden["epochs"].tolist()):
        weight = float(golden[f"weight_{schedule}"][number])
        assert mitigation.weight(epoch, 300) == pytest.approx(weight, abs=1e-12)
        # The authors divide the learning rate by this factor, here the loss is divided by it.
        gradient = step_gradient(golden, mitigation, epoch) * (1 + weight)
        torch.testing.assert_close(gradient, golden.tensor(f"gradient_{schedule}")[number], rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_f_divergence_is_the_authors(divergence: str) -> None:
    golden, mitigation = load_golden("f_divergence"), FDivergence(divergence=divergence, warmup_epochs=1)
    for epoch, name in enumerate(("warmup", divergence)):
        gradient = step_gradient(golden, mitigation, epoch)
        torch.testing.assert_close(gradient, golden.tensor(f"gradient_{name}"), rtol=0, atol=1e-6)
