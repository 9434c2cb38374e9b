"""NMTune against the authors' code."""

from __future__ import annotations

import pytest
import torch

from noisybench.mitigations._probe_heads import ResidualMLP
from noisybench.mitigations.nmtune import NMTune, consistency, covariance, dominance
from tests.golden.generators.nmtune import set_weights
from tests.golden.vectors import load_golden


def test_the_released_loss_and_its_gradient_are_the_authors() -> None:
    golden = load_golden("nmtune")
    after = golden.tensor("after").requires_grad_()
    loss = NMTune(variant="released")._regularizer(golden.tensor("before"), after)
    loss.backward()
    torch.testing.assert_close(loss.item(), golden["loss_all"].item(), rtol=0, atol=1e-6)
    torch.testing.assert_close(after.grad, golden.tensor("gradient_all"), rtol=0, atol=1e-7)


@pytest.mark.parametrize("term", ["mse", "cov", "svd"])
def test_each_term_is_the_authors(term: str) -> None:
    golden = load_golden("nmtune")
    before, after = golden.tensor("before"), golden.tensor("after").requires_grad_()
    values = {
        "mse": lambda: consistency(after, before, by_element=True),
        "cov": lambda: covariance(after),
        "svd": lambda: dominance(after, top=5),
    }
    loss = values[term]()
    loss.backward()
    torch.testing.assert_close(loss.item(), golden[f"loss_{term}_loss_weight"].item(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(after.grad, golden.tensor(f"gradient_{term}_loss_weight"), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_head_is_the_authors(layers: int, mode: str) -> None:
    golden = load_golden("nmtune")
    head = ResidualMLP(8, expansion=4, hidden_layers=layers, residual=True, scale=0.7)
    set_weights(head.layers)
    # The frozen outputs in evaluation follow one step of training, which moves the running statistics.
    outputs = head(golden.tensor("before"))
    if mode == "eval":
        outputs = head.eval()(golden.tensor("before"))
    torch.testing.assert_close(outputs.detach(), golden.tensor(f"head_{layers}_{mode}"), rtol=0, atol=1e-6)
