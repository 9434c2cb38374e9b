"""Forgetting counts of the authors' code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.golden.reference import definitions

REFERENCE = "https://github.com/mtoneva/example_forgetting"
COMMIT = "d51c1aaa51c5a5cd3b8a584f8d5dee2c8957653e"
COMPUTED = "compute_forgetting_statistics and sort_examples_by_forgetting: counts over 2 networks and 9 epochs"


def generate(folder: Path) -> dict[str, Any]:
    """Return whether every example was predicted correctly in each epoch, and its count summed over the networks."""
    reference = definitions(folder / "order_examples_by_forgetting.py", {"np": np})
    correct = np.random.default_rng(0).random((2, 9, 40)) < np.linspace(0, 1, 40)
    # Never learned by one network, and by both.
    correct[0, :, 20] = correct[:, :, 21] = False
    statistics = []
    for network in correct.astype(int):
        history = {number: [[], list(network[:, number]), [0.0] * 9] for number in range(40)}
        statistics.append(reference["compute_forgetting_statistics"](history, 9))
    order, counts = reference["sort_examples_by_forgetting"](
        [values[1] for values in statistics], [values[3] for values in statistics], 9
    )
    by_example = np.empty(40)
    by_example[order] = counts
    return {"correct": correct, "counts": by_example}
