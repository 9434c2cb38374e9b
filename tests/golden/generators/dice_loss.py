"""Soft Dice losses and their gradients from segmentation-models-pytorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

REFERENCE = "https://github.com/qubvel-org/segmentation_models.pytorch"
COMMIT = "0.6.0"
COMPUTED = "losses.DiceLoss in multiclass mode: loss and gradient of 2 batches, with and without the background class"


def generate(folder: Path | None) -> dict[str, Any]:
    """Return logits, labels, losses and gradients; the second batch has pixels without a label."""
    from segmentation_models_pytorch.losses import DiceLoss

    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for position in range(2):
        logits = rng.normal(0, 2, (2, 3, 6, 6)).astype(np.float32)
        labels = rng.integers(0, 3, (2, 6, 6))
        if position:
            labels[rng.random(labels.shape) < 0.2] = 255
        arrays |= {f"logits_{position}": logits, f"labels_{position}": labels.astype(np.uint8)}
        for kind, classes in (("all", None), ("objects", [1, 2])):
            scores = torch.from_numpy(logits).requires_grad_()
            loss = DiceLoss("multiclass", classes=classes, ignore_index=255 if position else None)(
                scores, torch.from_numpy(labels)
            )
            loss.backward()
            arrays[f"loss_{kind}_{position}"] = loss.detach().numpy()
            arrays[f"gradient_{kind}_{position}"] = np.asarray(scores.grad)
    return arrays
