"""Loss of one step from the statements of the authors' training loop, and outputs of their head."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

REFERENCE = "https://github.com/Hhhhhhao/Noisy-Model-Learning"
COMMIT = "f249dceebd08523acbef868ece897d4fce42c9e1"
COMPUTED = (
    "src/models/nml_tune.py: loss of one step without its cross-entropy, and the gradient of the head's features; "
    "src/models/modeling.py: outputs of ImageEncoderMLP in training and evaluation, with 1 and 2 hidden layers"
)

WEIGHTS = {"mse_loss_weight": 1.0, "cov_loss_weight": 0.04, "svd_loss_weight": 0.001}
"""Weights of the published commands."""


def generate(folder: Path) -> dict[str, Any]:
    """Return features before and after the head, the whole loss, each term alone, and gradients."""
    module = _source(folder, "src/models/nml_tune.py")
    functions = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    loops = [node for node in ast.walk(functions["nml_tune"]) if isinstance(node, ast.For)]
    # The terms are conditional statements of the inner loop that name their weight.
    terms = [
        node
        for node in loops[-1].body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id in WEIGHTS
    ]
    program = compile(ast.fix_missing_locations(ast.Module([functions["off_diagonal"], *terms], [])), "terms", "exec")

    rng = np.random.default_rng(0)
    before = rng.normal(0, 1, (16, 8)).astype(np.float32)
    after = (before + rng.normal(0, 0.7, (16, 8)) + 1).astype(np.float32)
    arrays: dict[str, Any] = {"before": before, "after": after}
    for name, weights in (("all", WEIGHTS), *((key, {**dict.fromkeys(WEIGHTS, 0.0), key: 1.0}) for key in WEIGHTS)):
        features = torch.from_numpy(after).requires_grad_()
        values: dict[str, Any] = {
            "torch": torch, "F": functional, "loss": torch.zeros(()), "mse_loss_fn": torch.nn.MSELoss(),
            "feats_w": torch.from_numpy(before), "mlp_feats": features, "mlp_feats_s": features, **weights,
        }  # fmt: skip
        exec(program, values)
        values["loss"].backward()
        arrays |= {f"loss_{name}": values["loss"].item(), f"gradient_{name}": np.asarray(features.grad)}
    return arrays | _head(folder, before)


def _source(folder: Path, path: str) -> ast.Module:
    """Return a module's syntax tree, as it is in the commit: imports of the whole module need packages of a GPU."""
    command = ["git", "-C", str(folder), "show", f"{COMMIT}:{path}"]
    return ast.parse(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _head(folder: Path, features: Any) -> dict[str, Any]:
    """Return outputs of the head behind an encoder that returns its inputs."""
    module = _source(folder, "src/models/modeling.py")
    definition = next(node for node in module.body if isinstance(node, ast.ClassDef) and node.name == "ImageEncoderMLP")
    encoder = torch.nn.Identity()
    encoder.num_features = features.shape[1]
    encoder.encode_image = lambda images: images
    values: dict[str, Any] = {"torch": torch, "timm_load": lambda model, dataset: (encoder, None, None)}
    exec(compile(ast.Module([definition], []), "head", "exec"), values)
    arrays: dict[str, Any] = {}
    for layers in (1, 2):
        arguments = SimpleNamespace(
            model_source="timm", model="", train_dataset="", cache_dir=None, mlp_after_ratio=4, mlp_after_layers=layers,
            mlp_with_res=True, mlp_res_scale_init=0.7,
        )  # fmt: skip
        head = values["ImageEncoderMLP"](arguments)
        set_weights(head.mlp_after)
        for mode in (True, False):
            outputs = head.train(mode)(torch.from_numpy(features))
            arrays[f"head_{layers}_{'train' if mode else 'eval'}"] = outputs.detach().numpy()
    return arrays


def set_weights(module: torch.nn.Module) -> None:
    """Set weights by a formula, so that they need not be stored."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(0.3 * torch.arange(weight.numel()).float().sin().view_as(weight))
