"""Early-learning regularization against the authors' loss."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from noisybench.mitigations.elr import ELR
from noisybench.training.batch import Batch
from tests.golden.vectors import load_golden


@pytest.mark.parametrize("setting", range(3))
def test_loss_gradient_and_running_averages_are_the_authors(setting: int) -> None:
    golden = load_golden("elr")
    beta, weight = golden["settings"][setting]
    labels, steps = golden.tensor(f"labels_{setting}"), len(golden[f"loss_{setting}"])
    elr = ELR(beta=float(beta), reg_weight=float(weight))
    elr.state["targets"] = torch.zeros(len(labels), 10)
    for step in range(steps):
        logits = golden.tensor(f"logits_{setting}")[step].requires_grad_()
        index = golden.tensor(f"index_{setting}")[step]
        task: Any = SimpleNamespace(logits=lambda inputs, logits=logits: logits)
        loss = elr.loss(task, Batch({"weak": index}, labels[index], index, num_classes=10)).mean()
        loss.backward()
        torch.testing.assert_close(loss.item(), golden[f"loss_{setting}"][step].item(), rtol=0, atol=1e-5)
        torch.testing.assert_close(logits.grad, golden.tensor(f"gradient_{setting}")[step], rtol=0, atol=1e-7)
    torch.testing.assert_close(elr.state["targets"], golden.tensor(f"targets_{setting}"), rtol=0, atol=1e-7)


@pytest.mark.parametrize("setting", range(2))
def test_mixed_examples_have_mixed_averages_as_in_the_authors_elr_plus(setting: int) -> None:
    golden = load_golden("elr_mixup")
    beta, weight = golden["settings"][setting]
    labels, steps = golden.tensor(f"labels_{setting}"), len(golden[f"loss_{setting}"])
    elr = ELR(beta=float(beta), reg_weight=float(weight))
    elr.state["targets"] = torch.zeros(len(labels), 10)
    for step in range(steps):
        unmixed = golden.tensor(f"unmixed_{setting}")[step]
        logits = golden.tensor(f"logits_{setting}")[step].requires_grad_()
        index, partner = (golden.tensor(f"{name}_{setting}")[step] for name in ("index", "partner"))
        # Inputs are zero before they are mixed, and one afterward, so that the network can return the logits of either.
        task: Any = SimpleNamespace(logits=lambda inputs, mixed=logits, plain=unmixed: mixed if inputs.any() else plain)
        batch = Batch({"weak": torch.zeros(8, 1)}, labels[index], index, num_classes=10)
        batch = batch.mixed(partner, float(golden[f"weight_{setting}"][step])).with_views({"weak": torch.ones(8, 1)})
        loss = elr.loss(task, batch).mean()
        loss.backward()
        torch.testing.assert_close(loss.item(), golden[f"loss_{setting}"][step].item(), rtol=0, atol=1e-5)
        torch.testing.assert_close(logits.grad, golden.tensor(f"gradient_{setting}")[step], rtol=0, atol=1e-7)
    torch.testing.assert_close(elr.state["targets"], golden.tensor(f"targets_{setting}"), rtol=0, atol=1e-7)
