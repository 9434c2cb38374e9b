"""Contrastive loss of solo-learn, with which the authors of LSA pre-train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from tests.golden.reference import definitions

REFERENCE = "https://github.com/vturrisi/solo-learn"
COMMIT = "9187ea39c2c3f43c455ab06664d2b019a9802954"
COMPUTED = "solo.losses.simclr.simclr_loss_func: loss and gradient of the projections of 16 images in two views"

TEMPERATURES = (0.1, 0.2, 1.0)


def generate(folder: Path) -> dict[str, Any]:
    """Return projections, losses and gradients."""
    names: dict[str, Any] = {"torch": torch, "F": functional, "gather": lambda values: values, "get_rank": lambda: 0}
    loss_of = definitions(folder / "solo" / "losses" / "simclr.py", names)["simclr_loss_func"]
    rng = np.random.default_rng(0)
    # Views of an image are similar, and lengths differ.
    images = rng.normal(size=(16, 8))
    projected = np.concatenate([images + rng.normal(0, 0.5, images.shape) for _ in range(2)])
    projected = (projected * rng.uniform(0.1, 10, (32, 1))).astype(np.float32)
    losses, gradients = [], []
    for temperature in TEMPERATURES:
        inputs = torch.from_numpy(projected).requires_grad_()
        loss = loss_of(inputs, torch.arange(16).repeat(2), temperature)
        (gradient,) = torch.autograd.grad(loss, inputs)
        losses.append(loss.item())
        gradients.append(gradient.numpy())
    return {
        "projected": projected, "temperatures": np.array(TEMPERATURES), "loss": np.array(losses),
        "gradient": np.array(gradients),
    }  # fmt: skip
