"""Losses on masks against the authors' code and a library."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from noisybench.mitigations.dice_loss import soft_dice_loss
from noisybench.mitigations.noise_robust_dice import noise_robust_dice_loss
from noisybench.mitigations.t_loss import student_loss
from noisybench.training.batch import Batch
from tests.golden.vectors import load_golden


@pytest.mark.parametrize("position", range(3))
def test_the_t_loss_is_the_authors_for_the_scale_of_their_code(position: int) -> None:
    golden = load_golden("t_loss")
    predicted = golden.tensor("predicted").requires_grad_()
    start = torch.tensor(float(golden["starts"][position]), requires_grad=True)
    squares = (predicted - golden.tensor("target")).square().flatten(1).sum(1)
    dimensions = torch.full_like(squares, predicted[0].numel())
    # The code multiplies squared errors by e, the inverse of its scale; the half of D is the logarithm of that scale.
    losses = student_loss(math.e * squares, dimensions, start.exp() + 1e-8) - dimensions / 2
    losses.sum().backward()
    torch.testing.assert_close(losses.detach(), golden.tensor(f"losses_{position}"), rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(predicted.grad, golden.tensor(f"gradient_{position}"), rtol=1e-5, atol=1e-5)
    assert start.grad is not None
    np.testing.assert_allclose(start.grad.item(), golden[f"nu_gradient_{position}"].item(), rtol=1e-4)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("position", range(2))
def test_the_dice_loss_is_the_librarys(position: int, background: bool) -> None:
    golden = load_golden("dice_loss")
    logits = golden.tensor(f"logits_{position}").permute(0, 2, 3, 1).reshape(-1, 3).requires_grad_()
    labels = golden.tensor(f"labels_{position}").flatten().long()
    has_label = labels != 255
    observed = labels.masked_fill(~has_label, 0)
    batch = Batch({"weak": logits}, observed, torch.arange(len(labels)), 3, has_label=has_label)
    loss = soft_dice_loss(logits, batch, background)
    loss.backward()
    kind = "all" if background else "objects"
    torch.testing.assert_close(loss.item(), golden[f"loss_{kind}_{position}"].item(), rtol=0, atol=1e-6)
    gradient = golden.tensor(f"gradient_{kind}_{position}").permute(0, 2, 3, 1).reshape(-1, 3)
    torch.testing.assert_close(logits.grad, gradient, rtol=0, atol=1e-7)


def pymic_batch() -> tuple[torch.Tensor, Batch, torch.Tensor]:
    golden = load_golden("pymic_dice")
    logits = golden.tensor("logits").permute(0, 2, 3, 1).reshape(-1, 3).requires_grad_()
    labels = golden.tensor("labels").flatten().long()
    weights = golden.tensor("weights").flatten()
    return logits, Batch({"weak": logits}, labels, torch.arange(len(labels)), 3), weights


@pytest.mark.parametrize("name", ["plain", "weighted"])
def test_the_weighted_dice_loss_is_the_librarys(name: str) -> None:
    golden, (logits, batch, weights) = load_golden("pymic_dice"), pymic_batch()
    loss = soft_dice_loss(logits, batch, True, weights if name == "weighted" else torch.ones_like(weights))
    loss.backward()
    torch.testing.assert_close(loss.item(), golden[f"loss_{name}"].item(), rtol=0, atol=1e-6)
    gradient = golden.tensor(f"gradient_{name}").permute(0, 2, 3, 1).reshape(-1, 3)
    torch.testing.assert_close(logits.grad, gradient, rtol=0, atol=1e-7)


@pytest.mark.parametrize("gamma", [1.5, 1.2])
def test_the_noise_robust_dice_loss_is_the_librarys(gamma: float) -> None:
    golden, (logits, batch, _) = load_golden("pymic_dice"), pymic_batch()
    name = f"robust_{10 * gamma:.0f}"
    loss = noise_robust_dice_loss(logits, batch, True, gamma, squares=False)
    loss.backward()
    torch.testing.assert_close(loss.item(), golden[f"loss_{name}"].item(), rtol=0, atol=1e-6)
    gradient = golden.tensor(f"gradient_{name}").permute(0, 2, 3, 1).reshape(-1, 3)
    torch.testing.assert_close(logits.grad, gradient, rtol=0, atol=1e-7)


@pytest.mark.parametrize("probability", [0.1, 1e-2, 1e-3])
def test_the_noise_robust_dice_loss_never_pushes_up_a_class_without_labels(probability: float) -> None:
    labels = (torch.arange(1000) < 300).long()
    logits = torch.zeros(1000, 3)
    logits[:, 2] = math.log(probability)
    logits.requires_grad_()
    noise_robust_dice_loss(logits, Batch({"weak": logits}, labels, labels, 3), False, 1.5, squares=True).backward()
    assert logits.grad is not None
    present = labels == 1
    assert bool((logits.grad[present, 1] < 0).all())
    assert logits.grad[:, 2].sum() >= 0
