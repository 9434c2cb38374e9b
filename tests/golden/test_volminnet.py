"""VolMinNet against two epochs of the authors' training loop."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from noisybench.config.budget import Budget
from noisybench.mitigations.volminnet import VolMinNet
from noisybench.training.batch import Batch
from noisybench.training.optimizers import build_optimizer, set_schedule
from noisybench.training.training_set import TrainingSet
from tests.golden.generators.volminnet import CLASSES, EPOCHS, FEATURES, MILESTONE, SETTINGS, STEPS
from tests.golden.vectors import load_golden


@pytest.mark.fast
@pytest.mark.parametrize("position", range(len(SETTINGS)))
def test_epochs_come_to_the_authors_weights_and_matrix(position: int) -> None:
    golden, (volume_weight, init, kind) = load_golden("volminnet"), SETTINGS[position]
    inputs, labels = golden.tensor(f"inputs_{position}"), golden.tensor(f"labels_{position}")
    network, heads = nn.Linear(FEATURES, CLASSES), nn.ModuleDict()
    network.load_state_dict({name: golden.tensor(f"first_{name}_{position}") for name in ("weight", "bias")})
    volminnet = VolMinNet(volume_weight=volume_weight, init=init, learning_rate=0.05, optimizer=kind)
    task: Any = SimpleNamespace(heads=heads, logits=network, add_head=lambda name, build: heads.update({name: build()}))
    volminnet.prepare(task, TrainingSet(inputs.flatten(0, 1), labels.flatten(), CLASSES))
    schedule = {"lr_schedule": "multistep", "lr_milestones": (MILESTONE,), "lr_gamma": 0.1}
    budget = Budget(epochs=EPOCHS, learning_rate=0.1, momentum=0.9, weight_decay=1e-4, **schedule)
    own = volminnet.requirements.head_optimizers
    optimizer = build_optimizer(budget, nn.ModuleList([network]), heads, own, torch.device("cpu"))
    for epoch in range(EPOCHS):
        for step in range(STEPS):
            batch = Batch({"weak": inputs[step]}, labels[step], torch.arange(len(labels[step])), CLASSES)
            optimizer.zero_grad()
            volminnet.loss(task, batch).mean().backward()
            set_schedule(optimizer, budget, epoch + step / STEPS, lr_multiplier=1.0)
            optimizer.step()
    matrix: Any = heads["transition"]
    torch.testing.assert_close(network.weight, golden.tensor(f"weight_{position}"), rtol=0, atol=1e-6)
    torch.testing.assert_close(matrix.logits, golden.tensor(f"logits_{position}"), rtol=0, atol=2e-6)
    torch.testing.assert_close(matrix(), golden.tensor(f"matrix_{position}"), rtol=0, atol=1e-6)
