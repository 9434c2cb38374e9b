"""Gradient of variational f-divergences in the authors' code."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.golden.generators.peer_loss import SIZE, peer_inputs, step_gradient
from tests.golden.reference import definitions, on_the_cpu

REFERENCE = "https://github.com/weijiaheng/Robust-f-divergence-measures"
COMMIT = "93d9efe616b777602fa40e966c58ba7a280fae5e"
COMPUTED = (
    "CIFAR-10/runner.train: change of the weights of a linear network in one step of SGD at a rate of 1, for five divergences, "
    "and for the cross-entropy of the warm-up"
)

DIVERGENCES = {
    "total_variation": "Total-Variation",
    "jensen_shannon": "Jenson-Shannon",
    "pearson": "Pearson",
    "kullback_leibler": "KL",
    "jeffrey": "Jeffrey",
}
"""The authors' names of the divergences."""


def choose_divergence(path: Path, names: dict[str, Any]) -> None:
    """Execute the statement of a script that defines the functions of the divergence `div`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and any(isinstance(each, ast.FunctionDef) for each in node.body)
    ]
    exec(compile(tree, str(path), "exec"), names)


def generate(folder: Path) -> dict[str, Any]:
    """Return inputs, and the gradient of every divergence."""
    arrays, path = peer_inputs(np.random.default_rng(1)), folder / "CIFAR-10" / "runner.py"
    results = {}
    for name, title in DIVERGENCES.items():
        args = SimpleNamespace(r=0.3, warmup=1)
        reference = definitions(path, {"torch": torch, "nn": nn, "batch_size": SIZE, "args": args, "div": title})
        choose_divergence(path, reference)
        reference["criterion_prob"] = reference["ProbLossStable"]()
        # Class indices as numbers of a target that the authors convert in one of two places only.
        stable = reference["CrossEntropyLossStable"]()
        reference["criterion"] = lambda outputs, labels, stable=stable: stable(outputs, labels.long())
        with on_the_cpu():
            results[f"gradient_{name}"] = step_gradient(reference["train"], arrays, epoch=1)
            results["gradient_warmup"] = step_gradient(reference["train"], arrays, epoch=0)
    return {**arrays, **results}
