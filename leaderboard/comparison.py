"""Comparison of claimed scores with those that follow from predictions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from noisybench.records.schema import Detection, EpochRow, RunRecord

FLOAT_TOLERANCE = 1e-4
"""Allowed absolute and relative difference of a score: library versions sum floats in different orders."""

CLASS_FIELDS = (
    "test_balanced_accuracy", "noisy_val_balanced_accuracy", "memorized_chance", "id_noise_auroc", "ood_auroc",
)  # fmt: skip
"""Fields of a row that are measured only for one class per example."""


def located_rows(record: RunRecord) -> Iterator[tuple[str, EpochRow]]:
    """Yield the rows of a record with the beginning of messages about them."""
    for number, row in enumerate(record.rows):
        yield f"row {number} ({row.stage}, epoch {row.epoch}): ", row


def differences(prefix: str, claimed: Mapping[Any, Any], computed: Mapping[Any, float | None]) -> list[str]:
    """Return which scores differ, by name; a score that is not claimed counts as None.

    Example:
        >>> differences("row 0: ", {"test_score": 0.9}, {"test_score": 0.5})
        ['row 0: test_score is claimed to be 0.9, but the predictions give 0.5']
    """
    return [
        f"{prefix}{name} is claimed to be {claimed.get(name)}, but the predictions give {value}"
        for name, value in computed.items()
        if not agree(claimed.get(name), value)
    ]


def agree(claimed: float | None, computed: float | None) -> bool:
    """Return True if two scores are equal up to `FLOAT_TOLERANCE`, or both are missing.

    Example:
        >>> agree(0.5, 0.50001), agree(None, 0.5)
        (True, False)
    """
    # A score that the predictions do not define must be missing from the record as well.
    if claimed is None or computed is None:
        return claimed is computed
    # The absolute tolerance covers scores near 0, the relative one losses above 1.
    return math.isclose(claimed, computed, abs_tol=FLOAT_TOLERANCE, rel_tol=FLOAT_TOLERANCE)


def check_detection(claimed: Detection, computed: Detection) -> list[str]:
    """Return which numbers of the detection of incorrect labels do not follow from the label quality."""
    scores = {name: value for name, value in vars(computed).items() if name != "roc"}
    problems = differences("detection.", vars(claimed), scores)
    if not _curves_agree(claimed.roc, computed.roc):
        problems.append("detection.roc is not what the label quality gives")
    return problems


def _curves_agree(claimed: list[float] | None, computed: list[float] | None) -> bool:
    if claimed is None or computed is None:
        return claimed is computed
    return len(claimed) == len(computed) and np.allclose(claimed, computed, atol=FLOAT_TOLERANCE)


def check_index(names: Mapping[str, tuple[str, Any, Any]]) -> list[str]:
    """Return which arrays are not those of their split.

    Args:
        names: name of the split, claimed array and expected array by name of the array.

    Example:
        >>> check_index({"test_index": ("test", [0, 1], [1, 0])})
        ['test_index is not that of the test split']
    """
    # Predictions are aligned by row: the same examples in another order would change every score.
    return [
        f"{name} is not that of the {split} split"
        for name, (split, claimed, expected) in names.items()
        if not np.array_equal(claimed, expected)
    ]


def check_array_shapes(shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> list[str]:
    """Return which arrays have another shape than they must have.

    Args:
        shapes: claimed and expected shape by name of the array.
    """
    return [
        f"{name} has the shape {claimed}, but must have {expected}"
        for name, (claimed, expected) in shapes.items()
        if claimed != expected
    ]
