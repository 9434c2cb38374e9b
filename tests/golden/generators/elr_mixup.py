"""Loss, gradient and running averages of the authors' `elr_plus_loss` over six steps on mixed examples."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.nn import functional

from tests.golden.reference import imports_from

REFERENCE = "https://github.com/shengliu66/ELR"
COMMIT = "934af53434a336b6db80d05d7649d23216e8ca6d"
COMPUTED = (
    "model.loss.elr_plus_loss with its weight ramped up: mean loss, gradient of the logits and running averages of 6 steps on "
    "8 of 12 examples, each mixed with a partner"
)

SETTINGS = ((0.7, 3.0), (0.9, 7.0))


def generate(folder: Path) -> dict[str, Any]:
    """Return inputs and results of every setting."""
    sys.modules["parse_config"] = mock.MagicMock()
    with imports_from(folder / "ELR_plus"):
        from model.loss import elr_plus_loss

        rng = np.random.default_rng(0)
        arrays: dict[str, Any] = {"settings": np.array(SETTINGS)}
        for position, (beta, weight) in enumerate(SETTINGS):
            config = {"coef_step": 0, "train_loss": {"args": {"lambda": weight}}}
            reference = elr_plus_loss(12, config, "cpu", num_classes=10, beta=beta)
            names = ("unmixed", "logits", "index", "partner", "weight", "loss", "gradient")
            steps: dict[str, list[Any]] = {name: [] for name in names}
            labels = rng.integers(0, 10, 12)
            for step in range(6):
                index, partner, share = rng.permutation(12)[:8], rng.permutation(8), rng.beta(1, 1)
                unmixed, logits = (
                    torch.tensor(rng.normal(0, 1 + step, (8, 10)), dtype=torch.float32, requires_grad=True)
                    for _ in range(2)
                )
                one_hot = functional.one_hot(torch.from_numpy(labels[index]), 10).float()
                reference.update_hist(0, unmixed.detach(), index, partner, share)
                loss, _ = reference(1, logits, share * one_hot + (1 - share) * one_hot[partner])
                loss.backward()
                values = (unmixed.detach(), logits.detach(), index, partner, share, loss.item(), logits.grad)
                for name, value in zip(names, values, strict=True):
                    steps[name].append(np.asarray(value))
            arrays[f"labels_{position}"] = labels
            arrays[f"targets_{position}"] = reference.pred_hist.numpy()
            arrays |= {f"{name}_{position}": np.array(values) for name, values in steps.items()}
    return arrays
