"""Joint loss of JoCoR in the authors' code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.golden.reference import imports_from

REFERENCE = "https://github.com/hongxin001/JoCoR"
COMMIT = "86db3597ffccb401d395900b91794aab76fff639"
COMPUTED = (
    "algorithm.loss.loss_jocor: loss and gradients of batches of 8, 33 and 64, at forget rates 0 to .7 and weights .1, .65 "
    "and .9"
)

SIZES, RATES, WEIGHTS = (8, 33, 64), (0.0, 0.2, 0.45, 0.7), (0.1, 0.65, 0.9)


def generate(folder: Path) -> dict[str, Any]:
    """Return logits of both networks, labels, losses and gradients of every batch size."""
    with imports_from(folder):
        from algorithm.loss import loss_jocor
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {"rates": np.array(RATES), "weights": np.array(WEIGHTS)}
    for size in SIZES:
        logits = torch.tensor(rng.normal(0, 2, (2, size, 4)), dtype=torch.float32)
        labels = torch.from_numpy(rng.integers(0, 4, size))
        losses, gradients = [], []
        for weight in WEIGHTS:
            for rate in RATES:
                values = logits.clone().requires_grad_()
                loss, *_ = loss_jocor(
                    values[0], values[1], labels, rate, torch.arange(size), np.ones(size, dtype=int), weight
                )
                loss.backward()
                losses.append(loss.item())
                gradients.append(values.grad.numpy())
        arrays |= {f"logits_{size}": logits.numpy(), f"labels_{size}": labels.numpy()}
        arrays |= {f"loss_{size}": np.array(losses), f"gradient_{size}": np.array(gradients, dtype=np.float32)}
    return arrays
