"""SOP and SOP+ against steps of the authors' loss and optimizers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from noisybench.config.budget import Budget
from noisybench.mitigations.sop import SOP
from noisybench.mitigations.sop_plus import SOPPlus
from noisybench.training.batch import Batch
from noisybench.training.optimizers import build_optimizer, set_schedule
from noisybench.training.training_set import TrainingSet
from tests.golden.vectors import load_golden

BUDGET = Budget(learning_rate=0.02, momentum=0.9, weight_decay=1e-3, lr_schedule="constant")


@pytest.mark.fast
@pytest.mark.parametrize("setting", range(3))
def test_steps_are_the_authors(setting: int) -> None:
    golden = load_golden("sop")
    lr_u, lr_v, std, consistency, balance = map(float, golden["settings"][setting])
    labels, inputs = golden.tensor(f"labels_{setting}"), golden.tensor(f"inputs_{setting}")
    rates: dict[str, Any] = {"lr_u": lr_u, "lr_v": lr_v, "init_std": std}
    sop = SOPPlus(**rates, consistency=consistency, balance=balance) if consistency else SOP(**rates)
    heads, network = nn.ModuleDict(), nn.Linear(5, 10)
    task: Any = SimpleNamespace(
        heads=heads, logits=lambda inputs: network(inputs), add_head=lambda name, build: heads.update({name: build()})
    )
    sop.prepare(task, TrainingSet(inputs[0], labels, num_classes=10))
    with torch.no_grad():
        heads["noise_u"].weight.copy_(golden.tensor(f"first_u_{setting}"))
        heads["noise_v"].weight.copy_(golden.tensor(f"first_v_{setting}"))
        network.weight.copy_(golden.tensor(f"first_weight_{setting}"))
        network.bias.copy_(golden.tensor(f"first_bias_{setting}"))
    own = sop.requirements.head_optimizers
    optimizer = build_optimizer(BUDGET, nn.ModuleList([network]), heads, own, torch.device("cpu"))
    for index, wanted in zip(golden.tensor(f"index_{setting}"), golden[f"loss_{setting}"], strict=True):
        views = dict(zip(sop.requirements.views, inputs[:, index], strict=False))
        loss = sop.loss(task, Batch(views, labels[index], index, num_classes=10)).mean()
        optimizer.zero_grad()
        loss.backward()
        set_schedule(optimizer, BUDGET, 0.0, lr_multiplier=1.0)
        optimizer.step()
        assert loss.item() == pytest.approx(wanted, rel=0, abs=2e-6)
    torch.testing.assert_close(heads["noise_u"].weight, golden.tensor(f"u_{setting}"), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(heads["noise_v"].weight, golden.tensor(f"v_{setting}"), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(network.weight, golden.tensor(f"weight_{setting}"), rtol=0, atol=1e-6)
