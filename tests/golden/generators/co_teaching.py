"""Loss of co-teaching in the authors' code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.golden.reference import imports_from, on_the_cpu

REFERENCE = "https://github.com/bhanML/Co-teaching"
COMMIT = "7c7fbe23e15e517db76a0882b6d108e4508e09d6"
COMPUTED = "loss.loss_coteaching: both losses and gradients of batches of 8, 33 and 64, at forget rates 0 to .7"

SIZES, RATES = (8, 33, 64), (0.0, 0.2, 0.45, 0.7)


def generate(folder: Path) -> dict[str, Any]:
    """Return logits of both networks, labels, losses and gradients of every batch size."""
    with imports_from(folder):
        from loss import loss_coteaching
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {"rates": np.array(RATES)}
    for size in SIZES:
        logits = torch.tensor(rng.normal(0, 2, (2, size, 4)), dtype=torch.float32)
        labels = torch.from_numpy(rng.integers(0, 4, size))
        losses, gradients = [], []
        for rate in RATES:
            values = logits.clone().requires_grad_()
            with on_the_cpu():
                first, second, *_ = loss_coteaching(
                    values[0], values[1], labels, rate, torch.arange(size), np.ones(size, dtype=int)
                )
            # The authors divide the mean by the number of kept examples once more.
            kept = int((1 - rate) * size)
            loss = kept * torch.stack([first, second])
            loss.sum().backward()
            losses.append(loss.detach().numpy())
            gradients.append(values.grad.numpy())
        arrays |= {f"logits_{size}": logits.numpy(), f"labels_{size}": labels.numpy()}
        arrays |= {f"loss_{size}": np.array(losses), f"gradient_{size}": np.array(gradients, dtype=np.float32)}
    return arrays
