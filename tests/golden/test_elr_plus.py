"""ELR+ against two epochs of the authors' trainer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from noisybench.mitigations.elr_plus import ELRPlus
from noisybench.training.batch import Batch
from noisybench.training.training_set import TrainingSet
from tests.golden.generators.elr_plus import BATCH, DECAY, EPOCHS, EXAMPLES, SETTINGS, STEPS, small_network
from tests.golden.small_networks import fill, flat
from tests.golden.vectors import load_golden


@pytest.mark.parametrize("position", range(len(SETTINGS)))
def test_epochs_come_to_the_authors_weights_and_averages(position: int, monkeypatch: pytest.MonkeyPatch) -> None:
    golden, (beta, weight, reg_ramp, average_ramp, classes) = load_golden("elr_plus"), SETTINGS[position]
    inputs, labels = golden.tensor(f"inputs_{position}"), golden.tensor(f"labels_{position}")
    networks = nn.ModuleList(small_network(classes) for _ in range(4))
    for network, values in zip(networks, golden.tensor(f"first_{position}"), strict=True):
        fill(network, values)
    mitigation = ELRPlus(
        beta=beta, reg_weight=weight, reg_ramp_steps=reg_ramp, average_decay=DECAY, average_ramp_steps=average_ramp,
        refine_targets=classes == 100,
    )  # fmt: skip
    draws, partners = iter(golden[f"weight_{position}"]), iter(golden.tensor(f"partner_{position}"))
    monkeypatch.setattr(torch, "randperm", lambda *_, **__: next(partners))
    learner: Any = SimpleNamespace(
        networks=networks, logits=lambda inputs, number: networks[number](inputs), generator=None,
        rng=SimpleNamespace(beta=lambda first, second: next(draws)),
        sampler=SimpleNamespace(steps_per_epoch=STEPS, plan=lambda *_: []),
    )  # fmt: skip
    mitigation.prepare(learner, TrainingSet(inputs, labels, classes))
    optimizer = torch.optim.SGD(networks.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    orders = golden.tensor(f"order_{position}").view(EPOCHS, 2, STEPS, BATCH)
    assert orders[0, 0].unique().numel() == EXAMPLES
    for learner.current_epoch in range(EPOCHS):
        mitigation.plan_epoch(learner)
        for number in range(2):
            for index in orders[learner.current_epoch, number]:
                batch = Batch({"weak": inputs[index]}, labels[index], index, classes, phase=number)
                loss = mitigation.loss(learner, batch).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                mitigation.on_step_end(learner)
    for network, wanted in zip(networks, golden[f"last_{position}"], strict=True):
        np.testing.assert_allclose(flat(network), wanted, rtol=0, atol=1e-6)
    np.testing.assert_allclose(mitigation.state["targets"].numpy(), golden[f"targets_{position}"], rtol=0, atol=1e-6)
