"""Error norms and gradient norms of the authors' code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.golden.backends import JAX
from tests.golden.formulas import set_weights, waves
from tests.golden.reference import definitions

REFERENCE = "https://github.com/mansheej/data_diet"
COMMIT = "aee462eab93aa0fb14c1ddfeba45d645b85a5fbb"
COMPUTED = (
    "scores.get_lord_error_fn (order 2) and get_grad_norm_fn, with PyTorch in place of JAX: scores of 24 examples under "
    "a convolutional network with batch normalization, whose weights and inputs follow a formula"
)


def network() -> torch.nn.Module:
    """Return the network, in evaluation mode."""
    layers = torch.nn
    return set_weights(
        layers.Sequential(
            layers.Conv2d(1, 3, 3, padding=1), layers.BatchNorm2d(3), layers.ReLU(),
            layers.AvgPool2d(4), layers.Flatten(), layers.Linear(12, 5),
        )
    ).eval()  # fmt: skip


def examples() -> tuple[torch.Tensor, torch.Tensor]:
    """Return (24, 1, 8, 8) inputs and (24,) labels."""
    return waves((24, 1, 8, 8), 5), torch.arange(24) * 7 % 5


def generate(folder: Path) -> dict[str, Any]:
    """Return both scores."""
    gradients = definitions(folder / "data_diet/gradients.py", dict(JAX))
    metrics = definitions(folder / "data_diet/metrics.py", dict(JAX))
    names = {"flatten_jacobian": gradients["flatten_jacobian"], "cross_entropy_loss": metrics["cross_entropy_loss"]}
    scores = definitions(folder / "data_diet/scores.py", {**JAX, **names})
    model, (inputs, labels) = network(), examples()
    state = dict(model.named_buffers())
    weights = {name: weight.detach() for name, weight in model.named_parameters()}

    def logits(weights: dict[str, torch.Tensor], state: dict[str, torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(model, (weights, state), (inputs,))

    targets = torch.nn.functional.one_hot(labels, 5).double()
    return {
        "el2n": scores["get_lord_error_fn"](logits, weights, state, 2)(inputs, targets),
        "grand": scores["get_grad_norm_fn"](logits, weights, state)(inputs, targets),
    }
