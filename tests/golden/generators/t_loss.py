"""Loss of each image, and its gradients, from the authors' `TLoss`."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

REFERENCE = "https://github.com/Digital-Dermatology/t-loss"
COMMIT = "f132e8767c2191463bbcc2c15310cd8df1b7ab30"
COMPUTED = "tloss.TLoss(reduction='none'): losses of 6 images of 12 x 12 pixels, gradients of predictions and of nu"

SIZE, STARTS = 12, (1.0, -0.5, 2.5)


def generate(folder: Path) -> dict[str, Any]:
    """Return errors of different sizes, losses and gradients for every initial logarithm of the degrees of freedom."""
    sys.path.insert(0, str(folder))
    from tloss import TLoss

    rng = np.random.default_rng(0)
    target = (rng.random((6, SIZE, SIZE)) < 0.4).astype(np.float32)
    share = np.linspace(0.02, 0.9, 6)[:, None, None]
    predicted = np.abs(target - share * rng.random(target.shape)).astype(np.float32)
    arrays: dict[str, Any] = {"target": target.astype(np.uint8), "predicted": predicted, "starts": np.array(STARTS)}
    config = SimpleNamespace(data=SimpleNamespace(image_size=SIZE), device="cpu")
    for position, start in enumerate(STARTS):
        reference = TLoss(config, nu=start, reduction="none")
        probabilities = torch.from_numpy(predicted).requires_grad_()
        losses = reference(probabilities, torch.from_numpy(target))
        losses.sum().backward()
        arrays[f"losses_{position}"] = losses.detach().numpy()
        arrays[f"gradient_{position}"] = np.asarray(probabilities.grad)
        arrays[f"nu_gradient_{position}"] = np.asarray(reference.nu.grad)
    return arrays
