"""Low-rank updates against the authors' code."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from noisybench.mitigations.lora import LoRA
from tests.golden.vectors import load_golden


def test_updates_of_a_linear_layer_are_the_authors() -> None:
    pytest.importorskip("peft")
    golden = load_golden("lora")
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    with torch.no_grad():
        network[0].weight.copy_(golden.tensor("weight"))
        network[0].bias.copy_(golden.tensor("bias"))
    layer = next(
        module
        for name, module in LoRA(rank=3, alpha=6).build_model(network).named_modules()
        if name.endswith("backbone.0")
    )
    torch.testing.assert_close(layer(golden.tensor("inputs")), golden.tensor("start"), rtol=0, atol=1e-6)
    updates = {name[-16:-15]: weight for name, weight in layer.named_parameters() if "lora_" in name}
    with torch.no_grad():
        updates["A"].copy_(golden.tensor("a"))
        updates["B"].copy_(golden.tensor("b"))
    outputs = layer(golden.tensor("inputs"))
    outputs.square().sum().backward()
    torch.testing.assert_close(outputs.detach(), golden.tensor("outputs"), rtol=0, atol=1e-5)
    torch.testing.assert_close(updates["A"].grad, golden.tensor("gradient_a"), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(updates["B"].grad, golden.tensor("gradient_b"), rtol=1e-5, atol=1e-5)
    assert not layer.get_parameter("base_layer.weight").requires_grad
