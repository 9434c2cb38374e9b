"""Examples that a round of the authors' code keeps."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

REFERENCE = "https://github.com/yanyao-shen/ITLM-simplecode"
COMMIT = "9dbbf2dbd27f9c44c603e822292c5e54c94e4999"
COMPUTED = "the selection of cifar_mnist_noisy.py: which of 50 examples are kept by their losses at four fractions"

FRACTIONS = (0.95, 0.8, 0.65, 0.3)


def generate(folder: Path) -> dict[str, Any]:
    """Return losses and kept examples."""
    tree = ast.parse((folder / "cifar_mnist_noisy.py").read_text(encoding="utf-8"))
    # The script selects in its only statement at the top level that depends on an earlier round.
    tree.body = [node for node in tree.body if isinstance(node, ast.If) and "loadckpt" in ast.unparse(node.test)]
    losses = np.random.default_rng(0).exponential(size=50)
    kept = []
    for fraction in FRACTIONS:
        config = SimpleNamespace(loadckpt="round", empirical_good_sample_ratio=fraction, fliprule=False)
        data = SimpleNamespace(get_data=lambda shuffle: (None, None, 50, None, None), good_idx_array=[])
        names = {"config": config, "D": data, "np": np, "logging": mock.MagicMock(), "print": lambda *_: None}
        names["A"] = SimpleNamespace(eval=lambda data, loadckpt: losses)
        exec(compile(tree, "cifar_mnist_noisy.py", "exec"), names)
        selected: Any = names["topk_idx"]
        kept.append(np.isin(np.arange(50), selected))
    return {"losses": losses, "fractions": np.array(FRACTIONS), "kept": np.array(kept)}
