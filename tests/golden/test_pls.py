"""PLS against the authors' training step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from noisybench.mitigations.pls import PLS
from noisybench.training.batch import Batch
from tests.golden.generators.pls import EPOCHS, SIZE, WARMUP
from tests.golden.small_networks import CLASSES, SmallNetwork, fill, flat, learner
from tests.golden.vectors import load_golden

GOLDEN = load_golden("pls")


@pytest.mark.parametrize("case", range(3), ids=lambda case: f"epoch {EPOCHS[case]}")
def test_loss_gradient_statistics_and_pseudo_labels_are_the_authors(case: int, monkeypatch: pytest.MonkeyPatch) -> None:
    epoch, network, observed = EPOCHS[case], SmallNetwork(), GOLDEN.tensor("labels")
    fill(network, GOLDEN.tensor("first"))
    mitigation = PLS(warmup_epochs=WARMUP, warmup_steps=0)
    flags = GOLDEN.tensor("noisy")
    weights = torch.where(flags, GOLDEN.tensor("weights"), 1.0) if epoch > WARMUP else torch.ones(SIZE)
    one_hot = torch.eye(CLASSES)[observed]
    mitigation.state = {"flags": flags[None], "weights": weights[None], "pseudo_labels": one_hot[None]}
    views = dict(zip(("weak", "weak_2", "contrastive"), GOLDEN.tensor("views"), strict=True))
    partner = GOLDEN.tensor("partner")[case]
    monkeypatch.setattr(torch, "randperm", lambda *_, **__: partner)
    task = learner(network, epoch, float(GOLDEN["mix_weight"][case]))
    loss = mitigation.loss(task, Batch(views, observed, torch.arange(SIZE), CLASSES)).mean()
    loss.backward()
    np.testing.assert_allclose(loss.item(), GOLDEN["loss"][case], rtol=0, atol=2e-6)
    np.testing.assert_allclose(flat(network, gradients=True), GOLDEN["gradient"][case], rtol=0, atol=5e-6)
    np.testing.assert_allclose(flat(network), GOLDEN["after"][case], rtol=0, atol=5e-7)
    np.testing.assert_allclose(
        mitigation.state["pseudo_labels"][0].numpy(), GOLDEN["pseudo_labels"][case], rtol=0, atol=5e-7
    )
