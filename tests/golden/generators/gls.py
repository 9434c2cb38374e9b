"""Loss of generalized label smoothing in the authors' code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.golden.reference import imports_from

REFERENCE = "https://github.com/UCSC-REAL/negative-label-smoothing"
COMMIT = "05078f675b42c13c89219eb8f2238bd4d794d83d"
COMPUTED = (
    "loss.loss_gls: loss and gradient of 12 examples of 2, 10 and 100 classes at rates .8 to -8, and at the weights of the "
    "warm-up"
)

SIZES, RATES = (2, 10, 100), (0.8, 0.2, 0.0, -0.4, -1.0, -8.0)


def generate(folder: Path) -> dict[str, Any]:
    """Return logits, labels, losses and gradients of every number of classes; the last row is that of the warm-up."""
    with imports_from(folder):
        from loss import loss_gls
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {"rates": np.array(RATES)}
    for classes in SIZES:
        logits = torch.tensor(rng.normal(0, 2, (12, classes)), dtype=torch.float32)
        labels = torch.from_numpy(rng.integers(0, classes, 12))
        losses, gradients = [], []
        for settings in (*({"smooth_rate": rate} for rate in RATES), {"smooth_rate": 0.0, "wa": 1, "wb": 0}):
            values = logits.clone().requires_grad_()
            loss = loss_gls(0, values, labels, **settings)
            loss.backward()
            losses.append(loss.item())
            gradients.append(values.grad.numpy())
        arrays |= {f"logits_{classes}": logits.numpy(), f"labels_{classes}": labels.numpy()}
        arrays |= {f"loss_{classes}": np.array(losses), f"gradient_{classes}": np.array(gradients)}
    return arrays
