"""Losses and weights of four steps of the authors' `train_one_step`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.golden.reference import definitions, on_the_cpu

REFERENCE = "https://github.com/xiaoboxia/CDR"
COMMIT = "6665a8ba265f0f60291ed7775042575db05bed61"
COMPUTED = (
    "main.train_one_step: losses and all parameters of a small network with batch normalization after 4 steps of SGD with "
    "momentum and weight decay, at three noise rates"
)

RATES, STEPS, CLASSES = (0.2, 0.4, 0.6), 4, 5


def small_network() -> nn.Module:
    """Return a network with a convolution, batch normalization and a linear layer."""
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, CLASSES))


def generate(folder: Path) -> dict[str, Any]:
    """Return inputs and results of every noise rate."""
    names = definitions(folder / "main.py", {"torch": torch, "F": functional, "np": np})
    arrays: dict[str, Any] = {"rates": np.array(RATES)}
    for position, rate in enumerate(RATES):
        rng = np.random.default_rng(position)
        torch.manual_seed(position)
        network = small_network()
        arrays |= {f"first_{position}_{name}": value.numpy().copy() for name, value in network.state_dict().items()}
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
        inputs, labels = rng.normal(size=(STEPS, 8, 2, 5, 5)).astype("float32"), rng.integers(0, CLASSES, (STEPS, 8))
        losses = []
        for step in range(STEPS):
            batch = (torch.from_numpy(inputs[step]), torch.from_numpy(labels[step]))
            with on_the_cpu():
                _, loss = names["train_one_step"](network, *batch, optimizer, nn.CrossEntropyLoss(), 1 - rate, 1 - rate)
            losses.append(loss.item())
        arrays |= {f"inputs_{position}": inputs, f"labels_{position}": labels, f"loss_{position}": np.array(losses)}
        arrays |= {f"last_{position}_{name}": value.numpy() for name, value in network.state_dict().items()}
    return arrays
