"""Forward and backward losses, and estimated transition matrices, of the authors' code."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from tests.golden.backends import KERAS, losses_and_gradient
from tests.golden.reference import definitions

REFERENCE = "https://github.com/giorgiop/loss-correction"
COMMIT = "15a79de3c67c31907733392085c333547c2f2b16"
COMPUTED = (
    "loss.robust, forward and backward, with PyTorch in place of Keras: losses and gradients of 6 examples; "
    "models.NoiseEstimator: matrices from 200 predictions, at the 97th percentile and at the largest probability"
)

SIZES = (2, 10)
SCALES = (1.0, 3.0)


def generate(folder: Path) -> dict[str, Any]:
    """Return logits, matrices and losses of every number of classes."""
    losses = definitions(folder / "loss.py", {"K": KERAS, "np": np})
    # The keyword of `numpy.percentile` has another name today.
    percentile = {"percentile": lambda values, q, interpolation: np.percentile(values, q, method=interpolation)}
    numpy = SimpleNamespace(**(vars(np) | percentile))
    estimator = definitions(folder / "models.py", {"np": numpy})["NoiseEstimator"]
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for classes in SIZES:
        matrix = 0.6 * np.eye(classes) + 0.4 * rng.dirichlet(np.ones(classes), size=classes)
        labels = rng.integers(0, classes, 6)
        arrays |= {f"matrix_{classes}": matrix, f"labels_{classes}": labels}
        for scale in SCALES:
            logits = torch.tensor(rng.normal(0, scale, (6, classes)), dtype=torch.float32)
            arrays[f"logits_{classes}_{scale:g}"] = logits.numpy()
            for name in ("forward", "backward"):
                result = losses_and_gradient(losses["robust"](name, matrix), logits, torch.from_numpy(labels))
                arrays |= {f"{name}_{key}_{classes}_{scale:g}": value for key, value in result.items()}
        clean = np.arange(200) % classes
        raw = np.log(matrix[clean]) + rng.normal(0, 0.2, (200, classes))
        predictions = np.exp(raw) / np.exp(raw).sum(1, keepdims=True)
        arrays[f"predictions_{classes}"] = predictions
        for filtered in (True, False):
            classifier = SimpleNamespace(classes=classes, predict_proba=lambda data, values=predictions: values.copy())
            estimate = estimator(classifier, filter_outlier=filtered).fit(None).predict()
            arrays[f"estimate_{classes}_{97 if filtered else 100}"] = estimate
    return arrays
