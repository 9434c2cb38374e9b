"""Loss of the first phase of CORES2 in the authors' code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.golden.reference import imports_from, on_the_cpu

REFERENCE = "https://github.com/UCSC-REAL/cores"
COMMIT = "cf0945e2d5eb4f38962913d51d6dff679099ad86"
COMPUTED = (
    "loss.loss_cores and loss.f_beta: loss, gradient, values of the sieve and selection of batches of 48 in six epochs, with "
    "uneven class frequencies"
)

SIZE, CLASSES, EPOCHS = 48, 5, (3, 17, 30, 31, 39, 60)


def generate(folder: Path) -> dict[str, Any]:
    """Return logits, labels, class frequencies and results of every epoch."""
    with imports_from(folder):
        from loss import f_beta, loss_cores
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, CLASSES, SIZE))
    prior = rng.dirichlet(np.ones(CLASSES)).astype(np.float32)
    arrays: dict[str, Any] = {"epochs": np.array(EPOCHS), "labels": labels.numpy(), "prior": prior}
    names = ("logits", "weight", "loss", "gradient", "sieve", "kept")
    steps: dict[str, list[Any]] = {name: [] for name in names}
    for epoch in EPOCHS:
        logits = torch.tensor(rng.normal(0, 3, (SIZE, CLASSES)), dtype=torch.float32, requires_grad=True)
        losses, sieve = np.zeros((SIZE, 100)), np.zeros((SIZE, 100))
        with on_the_cpu():
            loss, kept = loss_cores(
                epoch, logits, labels, range(CLASSES), np.arange(SIZE), None, losses, sieve,
                noise_prior=torch.from_numpy(prior)[None],
            )  # fmt: skip
        loss.backward()
        values = (logits.detach(), f_beta(epoch), loss.item(), logits.grad, sieve[:, epoch], kept)
        for name, value in zip(names, values, strict=True):
            steps[name].append(np.asarray(value))
    return arrays | {name: np.array(values) for name, values in steps.items()}
