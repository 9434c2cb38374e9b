"""Outputs and gradients of low-rank updates from the authors' `loralib`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

REFERENCE = "https://github.com/microsoft/LoRA"
COMMIT = "c4593f060e6a368d7bb5af5273b8e42810cdef90"
COMPUTED = "loralib.Linear(6, 5, r=3, lora_alpha=6): outputs with given updates, and gradients of the updates"


def generate(folder: Path) -> dict[str, Any]:
    """Return inputs, weights, outputs at the start and after an update, and gradients."""
    sys.path.insert(0, str(folder))
    import loralib

    torch.manual_seed(0)
    layer = loralib.Linear(6, 5, r=3, lora_alpha=6)
    inputs = torch.randn(4, 6)
    start = layer(inputs)
    with torch.no_grad():
        layer.lora_B.copy_(torch.randn(5, 3))
    outputs = layer(inputs)
    outputs.square().sum().backward()
    tensors = {
        "inputs": inputs, "weight": layer.weight, "bias": layer.bias, "a": layer.lora_A, "b": layer.lora_B,
        "start": start, "outputs": outputs, "gradient_a": layer.lora_A.grad, "gradient_b": layer.lora_B.grad,
    }  # fmt: skip
    return {name: np.asarray(tensor.detach()) for name, tensor in tensors.items()}
