"""Symmetric cross-entropy and bootstrapping of the code of the authors of the former."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.golden.backends import KERAS, TENSORFLOW, losses_and_gradient
from tests.golden.reference import definitions

REFERENCE = "https://github.com/YisenWang/symmetric_cross_entropy_for_noisy_labels"
COMMIT = "ec778df4a15192f8ccee2efb0fce8b94b8e00262"
COMPUTED = (
    "loss.symmetric_cross_entropy (mean over the batch), boot_soft and boot_hard, with PyTorch in place of Keras and "
    "TensorFlow: losses and gradients of 6 examples"
)

SIZES, SCALES, WEIGHTS = (2, 10), (1.0, 3.0), ((0.1, 1.0), (6.0, 0.1))


def generate(folder: Path) -> dict[str, Any]:
    """Return logits, labels, losses and gradients of every number of classes and scale."""
    losses = definitions(folder / "loss.py", {"K": KERAS, "tf": TENSORFLOW, "np": np})
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {"weights": np.array(WEIGHTS)}
    for classes in SIZES:
        for scale in SCALES:
            logits = torch.tensor(rng.normal(0, scale, (6, classes)), dtype=torch.float32)
            labels = rng.integers(0, classes, 6)
            place = f"{classes}_{scale:g}"
            arrays |= {f"logits_{place}": logits.numpy(), f"labels_{place}": labels}
            functions = {
                f"sce{number}": losses["symmetric_cross_entropy"](*pair) for number, pair in enumerate(WEIGHTS)
            }
            for name, loss in {**functions, "soft": losses["boot_soft"], "hard": losses["boot_hard"]}.items():
                result = losses_and_gradient(loss, logits, torch.from_numpy(labels))
                arrays |= {f"{name}_{key}_{place}": value for key, value in result.items()}
    return arrays
