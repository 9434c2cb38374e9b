"""Steps of sharpness-aware minimization against a public implementation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

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
