"""Loss, gradient and running averages of the authors' `elr_loss` over eight steps."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

REFERENCE = "https://github.com/shengliu66/ELR"
COMMIT = "934af53434a336b6db80d05d7649d23216e8ca6d"
COMPUTED = "model.loss.elr_loss: mean loss, gradient of the logits and running targets of 8 steps on 8 of 12 examples"

SETTINGS = ((0.7, 3.0), (0.9, 7.0), (0.9, 1.0))


def generate(folder: Path) -> dict[str, Any]:
    """Return inputs and results of every setting."""
    sys.path.insert(0, str(folder / "ELR"))
    # The loss reads its weight from a parser of the command line.
    parser = mock.MagicMock()
    sys.modules["parse_config"] = mock.MagicMock(ConfigParser=parser)
    from model.loss import elr_loss

    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {"settings": np.array(SETTINGS)}
    for position, (beta, weight) in enumerate(SETTINGS):
        parser.get_instance.return_value = {"train_loss": {"args": {"lambda": weight}}}
        reference = elr_loss(12, 10, beta)
        steps: dict[str, list[Any]] = {name: [] for name in ("logits", "index", "loss", "gradient")}
        labels = rng.integers(0, 10, 12)
        for step in range(8):
            index = rng.permutation(12)[:8]
            # Larger from step to step, as during training; at the end some probabilities are below the bound of 1e-4.
            logits = torch.tensor(rng.normal(0, 1 + 2 * step, (8, 10)), dtype=torch.float32, requires_grad=True)
            loss = reference(torch.from_numpy(index), logits, torch.from_numpy(labels[index]))
            loss.backward()
            values = (logits.detach().numpy(), index, loss.item(), logits.grad.numpy())
            for name, value in zip(steps, values, strict=True):
                steps[name].append(value)
        arrays[f"labels_{position}"] = labels
        arrays[f"targets_{position}"] = reference.target.numpy()
        arrays |= {f"{name}_{position}": np.array(values) for name, values in steps.items()}
    return arrays
