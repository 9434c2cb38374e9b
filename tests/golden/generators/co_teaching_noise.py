"""Transition matrices and labels of symmetric and pair-flip noise from the authors' functions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

REFERENCE = "https://github.com/bhanML/Co-teaching"
COMMIT = "7c7fbe23e15e517db76a0882b6d108e4508e09d6"
COMPUTED = (
    "data.utils.noisify_multiclass_symmetric and noisify_pairflip: the matrix that each gives to multiclass_noisify"
)

CASES = ((2, 0.2), (3, 0.4), (10, 0.2), (10, 0.45))


def generate(folder: Path) -> dict[str, Any]:
    """Return the matrices of both functions for several numbers of classes and rates."""
    text = (folder / "data" / "utils.py").read_text(encoding="utf-8")
    namespace: dict[str, Any] = {}
    # The file is written for Python 2, and its print statements are the only lines that Python 3 refuses.
    exec(re.sub(r"(?m)^( *)print [^(].*$|^( *)print P$", r"\1\2pass", text), namespace)
    arrays: dict[str, Any] = {"cases": np.array(CASES)}
    matrices: list[Any] = []

    def keep(labels: Any, P: Any, random_state: Any) -> Any:
        matrices.append(P)
        return (labels + 1) % len(P)

    namespace["multiclass_noisify"] = keep
    for position, (classes, rate) in enumerate(CASES):
        for name in ("noisify_multiclass_symmetric", "noisify_pairflip"):
            namespace[name](np.arange(classes), rate, 0, classes)
            arrays[f"{name.rpartition('_')[2]}_{position}"] = matrices.pop()
    return arrays
