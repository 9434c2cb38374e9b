"""Mean losses and their lower bounds in the authors' code of CNLCU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.neighbors import LocalOutlierFactor
from torch.nn import functional

from tests.golden.reference import Replacing, definitions, on_the_cpu

REFERENCE = "https://github.com/xiaoboxia/CNLCU"
COMMIT = "b96ddac6e987c012afeee4fd2836c46654a26eb5"
COMPUTED = (
    "loss: loss_ours_soft and loss_ours_hard in epoch 22 with co_lambda 1e-4 and loss_bound 2, for 40 examples that were "
    "selected 0 to 9 times: mean losses and criteria before they are clipped; of the soft ones, which the code computes for each "
    "pair of a history and a loss, those of the same example"
)

EPOCHS, SIZE, UNCERTAINTY, LARGEST_LOSS = 22, 40, 1e-4, 2.0


def generate(folder: Path) -> dict[str, Any]:
    """Return losses, numbers of selections, mean losses and criteria; the code puts a loss of 0 before the first epoch."""
    criteria: list[torch.Tensor] = []

    def clip(values: torch.Tensor) -> torch.Tensor:
        criteria.append(values)
        return functional.relu(values)

    # Bounds of one element each are numbers for the versions of NumPy that the code was written for.
    numbers = Replacing(np, array=lambda values: np.array([float(value) for value in values]))
    reference = definitions(
        folder / "loss.py",
        {
            "np": numbers,
            "torch": torch,
            "F": Replacing(functional, relu=clip),
            "LocalOutlierFactor": LocalOutlierFactor,
        },
    )
    rng = np.random.default_rng(0)
    logits, targets = torch.from_numpy(rng.normal(0, 3, (EPOCHS, SIZE, 3)).astype(np.float32)), torch.arange(SIZE) % 3
    losses = torch.stack([functional.cross_entropy(scores, targets, reduction="none") for scores in logits]).numpy()
    history = np.concatenate([np.zeros((1, SIZE), dtype=np.float32), losses[:-1]])
    counts = 1.0 + np.arange(SIZE) % 10
    shared = (logits[-1], logits[-1], targets, 0.0, np.arange(SIZE), np.zeros(SIZE), UNCERTAINTY)
    with on_the_cpu():
        before = reference["soft_process"](torch.from_numpy(history)).numpy().mean(0)[:, None]
        columns = torch.from_numpy(counts)[:, None]
        soft = reference["loss_ours_soft"](EPOCHS - 1, before, before, columns, columns, *shared)
        reference["loss_ours_hard"](EPOCHS - 1, history.T, history.T, columns, columns, *shared, LARGEST_LOSS)
        both = torch.from_numpy(np.concatenate([history, losses[-1:]]).T.copy())
        truncated, outliers = reference["hard_process"](both)
    return {
        "losses": losses, "counts": counts, "soft_means": soft[6].diagonal().numpy(), "soft": criteria[0].diagonal().numpy(),
        "hard_means": truncated.mean(1).numpy(), "hard": criteria[2].numpy(), "hard_counts": outliers.ravel(),
    }  # fmt: skip
