"""Joint asymmetric losses of the authors' code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.golden.reference import imports_from

REFERENCE = "https://github.com/cswjl/joint-asymmetric-loss"
COMMIT = "0f9eb7b7730fecc319dee5cd53508a9ac26b570c"
COMPUTED = (
    "NCEandAMSE and NFLandAMSE of losses.py with the settings of config.py for CIFAR-10, CIFAR-100, WebVision and Clothing1M: "
    "loss and gradient of 8 examples of 10 and 100 classes"
)

SIZES, LOSSES = (10, 100), ("NCEandAMSE", "NFLandAMSE")


def generate(folder: Path) -> dict[str, Any]:
    """Return logits, labels, settings, losses and gradients; the first half of the rows is that of cross-entropy."""
    with imports_from(folder):
        import config
    tables = (config.CIFAR10_CONFIG, config.CIFAR100_CONFIG, config.WEBVISION_CONFIG, config.CLOTHING_CONFIG)
    losses = [table[name] for name in LOSSES for table in tables]
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "settings": np.array(
            [(loss.loss1.scale, loss.loss2.scale, loss.loss2.a, getattr(loss.loss1, "gamma", 0.0)) for loss in losses]
        )
    }
    for classes in SIZES:
        logits = torch.tensor(rng.normal(0, 2, (8, classes)), dtype=torch.float32)
        labels = torch.from_numpy(rng.integers(0, classes, 8))
        results, gradients = [], []
        for criterion in losses:
            values = logits.clone().requires_grad_()
            loss = criterion(values, labels)
            loss.backward()
            results.append(loss.item())
            gradients.append(values.grad.numpy())
        arrays |= {f"logits_{classes}": logits.numpy(), f"labels_{classes}": labels.numpy()}
        arrays |= {f"loss_{classes}": np.array(results), f"gradient_{classes}": np.array(gradients)}
    return arrays
