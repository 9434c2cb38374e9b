"""Losses and thresholds of the authors' code of optimized gradient clipping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.golden.reference import imports_from

REFERENCE = "https://github.com/Virusdoll/OGC"
COMMIT = "a6b342af647257f1c1de3dc52bac85c35c88c70f"
COMPUTED = (
    "OGC_CE of methods/losses_ogc.py: losses, gradients, thresholds and mixtures of 24 batches of 32 examples of 5 classes, "
    "with a queue of 256 losses and an estimate every third step"
)

STEPS, STEPS_PER_EPOCH, BATCH, CLASSES, QUEUE, INTERVAL = 24, 6, 32, 5, 256, 3
RATES = (0.1, 0.1, 0.01, 0.001)
"""Learning rate of each epoch."""


def generate(folder: Path) -> dict[str, Any]:
    """Return logits and labels, of which 40 % are incorrect, and the results of every step."""
    with imports_from(folder):
        from methods.losses_ogc import OGC_CE
    rng = np.random.default_rng(0)
    np.random.seed(0)  # noqa: NPY002, the generator from which the mixture of the authors starts
    criterion = OGC_CE(20.0, INTERVAL, QUEUE, 1e-7, 10)
    classes, labels = rng.integers(0, CLASSES, (2, STEPS, BATCH))
    labels = np.where(rng.random((STEPS, BATCH)) < 0.4, labels, classes)
    # Predictions become more confident from step to step.
    scale = np.linspace(1, 8, STEPS)[:, None, None]
    logits = (rng.normal(size=(STEPS, BATCH, CLASSES)) + scale * np.eye(CLASSES)[classes]).astype("float32")
    found: dict[str, list[Any]] = {"loss": [], "gradient": [], "threshold": [], "means": [], "variances": []}
    for step in range(STEPS):
        values = torch.from_numpy(logits[step]).requires_grad_()
        loss = criterion(values, torch.from_numpy(labels[step]), lr=RATES[step // STEPS_PER_EPOCH])
        loss.backward()
        found["loss"].append(loss.item())
        found["gradient"].append(values.grad.numpy())
        found["threshold"].append(criterion.prob_thr_t)
        found["means"].append([criterion.info["mean_clean"], criterion.info["mean_noisy"]])
        found["variances"].append([criterion.info["covar_clean"], criterion.info["covar_noisy"]])
    return {"logits": logits, "labels": labels, **{name: np.array(values) for name, values in found.items()}}
