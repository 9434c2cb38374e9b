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


@pytest.mark.fast
def test_predictions_that_overflow_leave_no_trace_in_running_averages() -> None:
    mitigation, data = ELRPlus(beta=0.5), TrainingSet(torch.zeros(3, 2), torch.tensor([0, 1, 0]), num_classes=2)
    scores = torch.tensor([[0.0, 0.0], [torch.inf, 0.0]])
    learner: Any = SimpleNamespace(
        networks=nn.ModuleList(nn.Linear(2, 2) for _ in range(4)), logits=lambda inputs, number: scores,
        rng=np.random.default_rng(0), generator=None,
    )  # fmt: skip
    mitigation.prepare(learner, data)
    index = torch.tensor([2, 0])
    mitigation.loss(learner, Batch({"weak": data.inputs[index]}, data.targets[index], index, 2, phase=1))
    assert mitigation.state["targets"].tolist() == [[[0, 0]] * 3, [[0, 0], [0, 0], [0.25, 0.25]]]
