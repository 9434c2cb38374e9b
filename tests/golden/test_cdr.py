"""Updates of critical parameters against the authors' training step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from noisybench.mitigations.cdr import CDR
from tests.golden.generators.cdr import RATES, STEPS, small_network
from tests.golden.vectors import load_golden


@pytest.mark.fast
@pytest.mark.parametrize("position", range(len(RATES)))
def test_steps_are_the_authors(position: int) -> None:
    golden, network = load_golden("cdr"), small_network()
    network.load_state_dict({name: golden.tensor(f"first_{position}_{name}") for name in network.state_dict()})
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    cdr, task = CDR(noise_rate=RATES[position]), SimpleNamespace(networks=nn.ModuleList([network]))
    learner: Any = task
    for step in range(STEPS):
        logits = network(golden.tensor(f"inputs_{position}")[step])
        loss = functional.cross_entropy(logits, golden.tensor(f"labels_{position}")[step])
        optimizer.zero_grad()
        loss.backward()
        cdr.transform_gradients(learner)
        optimizer.step()
        assert loss.item() == pytest.approx(golden[f"loss_{position}"][step], rel=0, abs=1e-6)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, golden.tensor(f"last_{position}_{name}"), rtol=0, atol=1e-6)
