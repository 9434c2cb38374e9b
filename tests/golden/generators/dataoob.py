"""Values of Data-OOB by the authors' code, from bootstrap samples and predictions of trees."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from sklearn import ensemble

from tests.golden.reference import definitions

REFERENCE = "https://github.com/ykwon0407/dataoob"
COMMIT = "5375f8087763a4125fd99948cd6eec76148e801a"
COMPUTED = (
    "RandomForestClassifierDV.evaluate_oob_accuracy: values of 40 examples of 3 classes by 20 bootstrap samples and the classes "
    "that a tree is taken to predict"
)

SIZE, CLASSES, TREES = 40, 3, 20


def generate(folder: Path) -> dict[str, Any]:
    """Return labels, how often each sample holds each example, predicted classes and values."""
    names: dict[str, Any] = {"np": np} | {name: getattr(ensemble, name) for name in ensemble.__all__}
    reference = definitions(folder / "dataoob" / "ensemble_DV_core.py", names)["RandomForestClassifierDV"]
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, SIZE)
    samples = np.stack([np.bincount(rng.integers(0, SIZE, SIZE), minlength=SIZE) for _ in range(TREES)])
    predicted = np.where(rng.random((TREES, SIZE)) < 0.6, labels, rng.integers(0, CLASSES, (TREES, SIZE)))
    # The inputs are the positions of the examples, for which a tree has its predictions.
    trees = [SimpleNamespace(predict=row.__getitem__) for row in predicted]
    forest = SimpleNamespace(estimators_=trees, _ensemble_X=samples)
    values = reference.evaluate_oob_accuracy(forest, np.arange(SIZE), labels).to_numpy()
    return {"labels": labels, "samples": samples, "predicted": predicted, "values": values}
