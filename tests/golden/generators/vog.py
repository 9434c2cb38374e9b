"""Variances of gradients in the authors' toy experiment."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

REFERENCE = "https://github.com/chirag126/VOG"
COMMIT = "8f266afbeee714fe98ae557e96b61fb06089af52"
COMPUTED = "toy_script: scores of 50 test examples over 15 epochs before and after normalization; figures are left out"


def generate(folder: Path) -> dict[str, Any]:
    """Return the recorded gradients, labels and scores."""
    path = folder / "toy_script.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) or not _draws(ast.unparse(node))]
    names: dict[str, Any] = {"print": lambda *_: None}
    arguments = ["toy_script.py", "--split", "test", "--mode", "complete", "--vog_cal", "normalize"]
    with mock.patch.object(sys, "argv", arguments):
        exec(compile(tree, str(path), "exec"), names)
    gradients = np.array([names["vog"][example] for example in range(len(names["vog"]))]).swapaxes(0, 1)
    return {
        "gradients": gradients, "labels": np.array(names["training_labels"]), "raw": np.array(names["training_vog_stats"]),
        "normalized": np.array(names["normalized_vog"]),
    }  # fmt: skip


def _draws(statement: str) -> bool:
    return any(word in statement for word in ("plt", "ipdb", "plot_decision_boundaries"))
