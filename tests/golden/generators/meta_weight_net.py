"""Weights of a network and of its weighting network after training by the code of Meta-Weight-Net."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from tests.golden.reference import definitions, imports_from, on_the_cpu

REFERENCE = "https://github.com/xjtushujun/meta-weight-net"
COMMIT = "3f1800ff26bc66ceda6075f3fa25f3a7e0665a4d"
COMPUTED = "MW-Net.train: weights of a linear network and of VNet after 8 steps, with SGD and Adam as in the script"

STEPS, BATCH, CLEAN, FEATURES, CLASSES, RATE = 8, 10, 6, 5, 4, 0.1
WEIGHT_RATE = 0.02
"""Learning rate of the weighting network, larger than in the script, so that eight steps change it."""


def generate(folder: Path) -> dict[str, Any]:
    """Return inputs, labels, and the first and the last weights of both networks."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "inputs": rng.normal(0, 1, (STEPS, BATCH, FEATURES)).astype("float32"),
        "labels": rng.integers(0, CLASSES, (STEPS, BATCH)),
        "clean_inputs": rng.normal(0, 1, (STEPS, CLEAN, FEATURES)).astype("float32"),
        "clean_labels": rng.integers(0, CLASSES, (STEPS, CLEAN)),
    }
    torch.manual_seed(0)
    with imports_from(folder), on_the_cpu(), warnings.catch_warnings(action="ignore"):
        from resnet import MetaLinear, VNet

        model, weighting = MetaLinear(FEATURES, CLASSES), VNet(1, 100, 1)
        arrays |= {f"first_{name}": value for name, value in _weights(model, weighting).items()}
        names: dict[str, Any] = {
            "torch": torch, "F": functional, "device": "cpu", "args": SimpleNamespace(lr=RATE, epochs=1, print_freq=100)
        }  # fmt: skip
        reference = definitions(folder / "MW-Net.py", names)
        reference["build_model"] = lambda: MetaLinear(FEATURES, CLASSES)
        batches, clean = (
            list(zip(torch.from_numpy(arrays[f"{kind}inputs"]), torch.from_numpy(arrays[f"{kind}labels"]), strict=True))
            for kind in ("", "clean_")
        )
        reference["train"](
            batches,
            clean,
            model,
            weighting,
            torch.optim.SGD(model.params(), RATE, momentum=0.9, nesterov=True, weight_decay=5e-4),
            torch.optim.Adam(weighting.params(), WEIGHT_RATE, weight_decay=1e-4),
            0,
        )
    return arrays | _weights(model, weighting)


def _weights(model: Any, weighting: Any) -> dict[str, Any]:
    """Return weights and bias of the network, and all parameters of the weighting network in one row."""
    own = torch.cat([values.detach().flatten() for values in weighting.params()])
    return {
        "weight": model.weight.detach().numpy().copy(), "bias": model.bias.detach().numpy().copy(),
        "weighting": own.numpy().copy(),
    }  # fmt: skip
