"""Loss of co-teaching+ in the authors' code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.golden.reference import imports_from, on_the_cpu

REFERENCE = "https://github.com/xingruiyu/coteaching_plus"
COMMIT = "a68ed612885a258d8fbfe3a594b6474b27e3b575"
COMPUTED = (
    "loss.loss_coteaching_plus: both losses and gradients of batches of 8, 33 and 64, in which a part of the predictions "
    "disagree, at forget rates 0 to .7"
)

SIZES, RATES = (8, 33, 64), (0.0, 0.2, 0.45, 0.7)


def generate(folder: Path) -> dict[str, Any]:
    """Return logits of both networks, labels, losses and gradients of every batch size."""
    with imports_from(folder):
        from loss import loss_coteaching_plus
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {"rates": np.array(RATES)}
    for size in SIZES:
        logits = torch.tensor(rng.normal(0, 2, (2, size, 4)), dtype=torch.float32)
        # The networks agree on every third example.
        logits[1, ::3] = logits[0, ::3] + 0.1 * logits[1, ::3]
        labels = torch.from_numpy(rng.integers(0, 4, size))
        disagreeing = int((logits[0].argmax(1) != logits[1].argmax(1)).sum())
        losses, gradients = [], []
        for rate in RATES:
            values = logits.clone().requires_grad_()
            # Positions from 1, because the authors' code loses an example in batches with position 0.
            with on_the_cpu():
                first, second, *_ = loss_coteaching_plus(
                    values[0], values[1], labels, rate, 1 + np.arange(size), np.ones(size + 1, dtype=int), 5000
                )
            # The authors divide the mean by the number of kept examples once more.
            loss = int((1 - rate) * disagreeing) * torch.stack([first, second])
            loss.sum().backward()
            losses.append(loss.detach().numpy())
            gradients.append(values.grad.numpy())
        arrays |= {f"logits_{size}": logits.numpy(), f"labels_{size}": labels.numpy()}
        arrays |= {f"loss_{size}": np.array(losses), f"gradient_{size}": np.array(gradients, dtype=np.float32)}
    return arrays
