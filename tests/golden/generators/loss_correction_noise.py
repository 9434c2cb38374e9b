"""Transition matrices of asymmetric noise from the authors' functions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

REFERENCE = "https://github.com/giorgiop/loss-correction"
COMMIT = "15a79de3c67c31907733392085c333547c2f2b16"
COMPUTED = "noise.noisify_mnist_asymmetric, noisify_cifar10_asymmetric and noisify_cifar100_asymmetric: their matrices"

RATES = (0.2, 0.4)


def generate(folder: Path) -> dict[str, Any]:
    """Return the matrices of three functions for each rate."""
    sys.path.insert(0, str(folder))
    import noise

    # Its assignment of an array of one number is refused by NumPy 2; the labels are not wanted here.
    noise.multiclass_noisify = lambda labels, P, random_state: (labels + 1) % len(P)
    arrays: dict[str, Any] = {"rates": np.array(RATES)}
    for position, rate in enumerate(RATES):
        for name in ("mnist", "cifar10", "cifar100"):
            labels = np.repeat(np.arange(100 if name == "cifar100" else 10), 5)
            arrays[f"{name}_{position}"] = getattr(noise, f"noisify_{name}_asymmetric")(labels, rate, 0)[1]
    return arrays
