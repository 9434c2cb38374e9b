"""Alignment scores and selections of FINE in the authors' code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sklearn import cluster

from tests.golden.reference import definitions

REFERENCE = "https://github.com/Kthyeon/FINE_official"
COMMIT = "d5ab341dec5356d5f9a2a8ebc3ba8e846188af61"
COMPUTED = (
    "dynamic_selection/selection/svd_classifier: get_score with singular vectors of 60 features of 3 classes in 8 dimensions, of "
    "which 9 are of another class, and the examples that `fine` keeps"
)

SIZE, CLASSES, DIMENSIONS = 60, 3, 8


class Silent:
    """A progress bar that shows nothing, around an iterable or in a with statement."""

    def __init__(self, values: Any = (), **_: Any) -> None:
        self._values = values

    def __iter__(self) -> Any:
        return iter(self._values)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, _: int) -> None:
        """Show nothing."""


def generate(folder: Path) -> dict[str, Any]:
    """Return features, labels, scores and kept examples."""
    path = folder / "dynamic_selection" / "selection" / "svd_classifier.py"
    reference = definitions(path, {"np": np, "cluster": cluster, "tqdm": Silent})
    rng = np.random.default_rng(0)
    clean = np.arange(SIZE) % CLASSES
    means = rng.normal(size=(CLASSES, DIMENSIONS))
    features = (means[clean] + 0.4 * rng.normal(size=(SIZE, DIMENSIONS))).astype(np.float32)
    labels = np.where(np.arange(SIZE) < 9, (clean + 1) % CLASSES, clean)
    vectors = reference["get_singular_vector"](features, labels)
    kept = np.zeros(SIZE, dtype=bool)
    kept[reference["fine"](features, labels, fit="kmeans")] = True
    return {
        "features": features, "labels": labels, "scores": reference["get_score"](vectors, features, labels), "kept": kept
    }  # fmt: skip
