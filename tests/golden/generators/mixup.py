"""Mixed inputs and losses of the authors' code."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from tests.golden.reference import definitions

REFERENCE = "https://github.com/facebookresearch/mixup-cifar10"
COMMIT = "eaff31ab397a90fbc0a4aac71fb5311144b3608b"
COMPUTED = "train.mixup_data and mixup_criterion: mixed inputs and mean loss of 12 examples under a linear classifier"

ALPHAS = (0.2, 1.0, 8.0)


def generate(folder: Path) -> dict[str, Any]:
    """Return inputs, drawn weights and partners, mixed inputs and losses."""
    rng = np.random.default_rng(0)
    inputs = torch.tensor(rng.normal(size=(12, 6)), dtype=torch.float32)
    classifier = torch.tensor(rng.normal(size=(6, 4)), dtype=torch.float32)
    labels = torch.from_numpy(rng.integers(0, 4, 12))
    results: dict[str, list[Any]] = {name: [] for name in ("weight", "partner", "mixed", "loss")}
    for alpha in ALPHAS:
        # Drawn once before, to know the partners, which the function returns only as labels.
        torch.manual_seed(3)
        partner = torch.randperm(12)
        torch.manual_seed(3)
        numpy = SimpleNamespace(random=np.random.RandomState(3))
        reference = definitions(folder / "train.py", {"np": numpy, "torch": torch})
        mixed, first, second, weight = reference["mixup_data"](inputs, labels, alpha, use_cuda=False)
        loss = reference["mixup_criterion"](functional.cross_entropy, mixed @ classifier, first, second, weight)
        for name, value in zip(results, (weight, partner.numpy(), mixed.numpy(), loss.item()), strict=True):
            results[name].append(value)
    arrays: dict[str, Any] = {name: np.array(values) for name, values in results.items()}
    return {**arrays, "inputs": inputs.numpy(), "classifier": classifier.numpy(), "labels": labels.numpy()}
