"""Losses and weights of four steps of a public implementation of sharpness-aware minimization."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from tests.golden.generators.cdr import CLASSES, small_network
from tests.golden.reference import definitions

REFERENCE = "https://github.com/davda54/sam"
COMMIT = "3c3afdbd71cff2462ec91c734b3d1170bd0f3707"
COMPUTED = (
    "sam.SAM and utility.bypass_bn as example/train.py uses them: losses, weights and batch statistics of a small network after "
    "4 steps of SGD with momentum and weight decay, plain and adaptive"
)

SETTINGS = ({"rho": 0.05, "adaptive": False}, {"rho": 0.5, "adaptive": True})
STEPS = 4


def generate(folder: Path) -> dict[str, Any]:
    """Return inputs and results of every setting."""
    sam = definitions(folder / "sam.py", {"torch": torch})["SAM"]
    statistics = definitions(
        folder / "example" / "utility" / "bypass_bn.py",
        {"torch": torch, "nn": torch.nn, "_BatchNorm": torch.nn.modules.batchnorm._BatchNorm},
    )
    arrays: dict[str, Any] = {}
    for position, setting in enumerate(SETTINGS):
        rng = np.random.default_rng(position)
        torch.manual_seed(position)
        network = small_network()
        arrays |= {f"first_{position}_{name}": value.numpy().copy() for name, value in network.state_dict().items()}
        optimizer = sam(network.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-3, **setting)
        inputs, labels = rng.normal(size=(STEPS, 8, 2, 5, 5)).astype("float32"), rng.integers(0, CLASSES, (STEPS, 8))
        losses = []
        for step in range(STEPS):
            images, classes = torch.from_numpy(inputs[step]), torch.from_numpy(labels[step])
            statistics["enable_running_stats"](network)
            functional.cross_entropy(network(images), classes).backward()
            optimizer.first_step(zero_grad=True)
            statistics["disable_running_stats"](network)
            loss = functional.cross_entropy(network(images), classes)
            loss.backward()
            optimizer.second_step(zero_grad=True)
            losses.append(loss.item())
        arrays |= {f"inputs_{position}": inputs, f"labels_{position}": labels, f"loss_{position}": np.array(losses)}
        arrays |= {f"last_{position}_{name}": value.numpy() for name, value in network.state_dict().items()}
    return arrays
