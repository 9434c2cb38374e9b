"""Dice losses and their gradients from PyMIC: weighted by pixel, and noise-robust."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch

REFERENCE = "https://github.com/HiLab-git/PyMIC"
COMMIT = "8bcebd62ad4360d7dc5143907f56dd793dd5e304"
COMPUTED = (
    "loss/seg/dice.py: DiceLoss with pixel weights, and NoiseRobustDiceLoss with gamma 1.5 and 1.2: loss and gradient"
)


def generate(folder: Path | None) -> dict[str, Any]:
    """Return logits, labels, pixel weights, losses and gradients of one batch with three classes."""
    assert folder is not None
    # Empty packages in place of those whose imports need the rest of the library.
    for name in ("pymic", "pymic.loss", "pymic.loss.seg"):
        package = types.ModuleType(name)
        package.__path__ = [str(folder.joinpath(*name.split(".")))]
        sys.modules[name] = package
    dice = importlib.import_module("pymic.loss.seg.dice")
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (2, 3, 6, 6)).astype(np.float32)
    labels = rng.integers(0, 3, (2, 6, 6))
    weights = rng.random((2, 1, 6, 6)).astype(np.float32)
    arrays: dict[str, Any] = {"logits": logits, "labels": labels.astype(np.uint8), "weights": weights[:, 0]}
    losses = {
        "weighted": (dice.DiceLoss(), {"pixel_weight": torch.from_numpy(weights)}),
        "plain": (dice.DiceLoss(), {}),
        "robust_15": (dice.NoiseRobustDiceLoss({"noiserobustdiceloss_gamma": 1.5}), {}),
        "robust_12": (dice.NoiseRobustDiceLoss({"noiserobustdiceloss_gamma": 1.2}), {}),
    }
    targets = torch.nn.functional.one_hot(torch.from_numpy(labels), 3).permute(0, 3, 1, 2).float()
    for name, (loss, more) in losses.items():
        scores = torch.from_numpy(logits).requires_grad_()
        value = loss({"prediction": scores, "ground_truth": targets, **more})
        value.backward()
        arrays |= {f"loss_{name}": value.detach().numpy(), f"gradient_{name}": np.array(scores.grad)}
    return arrays
