"""Generalized cross-entropy of the authors' code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.golden.reference import imports_from

REFERENCE = "https://github.com/AlanChou/Truncated-Loss"
COMMIT = "fef5908729a8e8446eb2d4ec327664cc6b11d6c6"
COMPUTED = "TruncatedLoss with all weights 1: mean loss plus its constant, and gradient, for q of .1, .3, .7 and 1"

SIZES, EXPONENTS = (2, 10, 100), (0.1, 0.3, 0.7, 1.0)


def generate(folder: Path) -> dict[str, Any]:
    """Return logits, labels, losses and gradients of every number of classes."""
    with imports_from(folder):
        from TruncatedLoss import TruncatedLoss
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {"exponents": np.array(EXPONENTS)}
    for classes in SIZES:
        logits = torch.tensor(rng.normal(0, 2, (6, classes)), dtype=torch.float32)
        labels = rng.integers(0, classes, 6)
        arrays |= {f"logits_{classes}": logits.numpy(), f"labels_{classes}": labels}
        losses, gradients = [], []
        for q in EXPONENTS:
            values = logits.clone().requires_grad_()
            reference = TruncatedLoss(q=q, k=0.5, trainset_size=6)
            loss = reference(values, torch.from_numpy(labels), torch.arange(6))
            loss.backward()
            # The authors subtract the loss at p = k, which has no gradient.
            losses.append(loss.item() + (1 - 0.5**q) / q)
            gradients.append(values.grad.numpy())
        arrays |= {f"loss_{classes}": np.array(losses), f"gradient_{classes}": np.array(gradients)}
    return arrays
