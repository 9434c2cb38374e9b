"""Trust scores of a detector of the package mislabeled, and the name of the method that returns them."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from tests.golden.reference import imports_from

REFERENCE = "https://github.com/Orange-OpenSource/mislabeled"
COMMIT = "f9bb4e149ce8ec95c6e86ce66ae6b3c307660f62"
COMPUTED = "SmallLoss of a logistic regression: trust scores of 60 examples of 3 classes, of which 9 have another label"

SIZE, CLASSES, DIMENSIONS = 60, 3, 4


def generate(folder: Path) -> dict[str, Any]:
    """Return features, labels, trust scores and the names of the methods of detectors that return them."""
    with imports_from(folder):
        from mislabeled.detect import ModelProbingDetector
        from mislabeled.detect.detectors import SmallLoss

        rng, clean = np.random.default_rng(0), np.arange(SIZE) % CLASSES
        features = (2 * np.eye(CLASSES, DIMENSIONS)[clean] + rng.normal(size=(SIZE, DIMENSIONS))).astype(np.float32)
        labels = np.where(np.arange(SIZE) < 9, (clean + 1) % CLASSES, clean)
        methods = [name for name, _ in inspect.getmembers(ModelProbingDetector, callable) if "trust" in name]
        (method,) = methods
        scores = getattr(SmallLoss(LogisticRegression()), method)(features, labels)
    return {"features": features, "labels": labels, "scores": scores, "methods": np.array(methods)}
