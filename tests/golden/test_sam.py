"""Steps of sharpness-aware minimization against a public implementation."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from noisybench.mitigations.ensemble import Ensemble
from noisybench.mitigations.sam import SAM
from tests.golden.generators.cdr import small_network
from tests.golden.generators.sam import SETTINGS, STEPS
from tests.golden.vectors import load_golden


@pytest.mark.fast
@pytest.mark.parametrize("position", range(len(SETTINGS)))
def test_steps_are_those_of_the_reference(position: int) -> None:
    golden, network = load_golden("sam"), small_network()
    network.load_state_dict({name: golden.tensor(f"first_{position}_{name}") for name in network.state_dict()})
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    sam = SAM(**SETTINGS[position])
    task: Any = SimpleNamespace(networks=nn.ModuleList([network]))
    sam.on_epoch_start(task)
    for step in range(STEPS):
        labels = golden.tensor(f"labels_{position}")[step]
        images: Any = golden.tensor(f"inputs_{position}")[step]
        loss = sam.wrap_loss(
            task,
            images,
            lambda batch, labels=labels: functional.cross_entropy(network(batch), labels, reduction="none"),
        ).mean()
        optimizer.zero_grad()
        loss.backward()
        sam.transform_gradients(task)
        optimizer.step()
        assert loss.item() == pytest.approx(golden[f"loss_{position}"][step], rel=0, abs=1e-6)
    for name, value in network.state_dict().items():
        if (
            name != "1.num_batches_tracked"
        ):  # the reference counts its second passes as well, which changes no statistic
            torch.testing.assert_close(value, golden.tensor(f"last_{position}_{name}"), rtol=0, atol=1e-6)


@pytest.mark.fast
def test_networks_of_an_ensemble_step_as_if_each_were_trained_alone() -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(8, 2, 5, 5), torch.arange(8) % 2
    networks = nn.ModuleList([small_network(), small_network()])
    alone = copy.deepcopy(networks)

    def step(trained: nn.ModuleList, mitigation: Any) -> None:
        """Take one step of all networks."""
        sam = SAM()
        task: Any = SimpleNamespace(networks=trained, active_network=0)
        sam.on_epoch_start(task)

        def loss(batch: Any) -> torch.Tensor:
            scores = trained[task.active_network](batch)
            return functional.cross_entropy(scores, labels, reduction="none")

        mitigation(task, images, lambda batch: sam.wrap_loss(task, batch, loss)).mean().backward()
        sam.transform_gradients(task)
        torch.optim.SGD(trained.parameters(), lr=0.1).step()

    step(networks, Ensemble().wrap_loss)
    for network in alone:
        step(nn.ModuleList([network]), lambda task, batch, inner_loss: inner_loss(batch))
    for name, value in networks.state_dict().items():
        torch.testing.assert_close(value, alone.state_dict()[name], rtol=0, atol=1e-6, msg=name)
