"""Methods for noisy masks against steps of PyMIC."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from noisybench.mitigations._small_loss import small_loss_weights
from noisybench.mitigations.clslsr import smooth_flagged
from noisybench.mitigations.mean_teacher import average_decay, consistency, ramp
from noisybench.mitigations.trinet import agreed_loss, agreed_pixels
from tests.golden.vectors import load_golden

GOLDEN = "pymic_noisy_labels"


def by_pixel(maps: Tensor) -> Tensor:
    """Return the (B H W, C) values of (B, C, H, W) maps."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def safe_logarithms(logits: Tensor) -> Tensor:
    """Return the logarithms of probabilities with the library's safeguard, which no method here has."""
    return (0.999 * logits.softmax(1) + 5e-4).log()


def test_labels_of_flagged_pixels_are_smoothed_as_in_the_library() -> None:
    golden = load_golden(GOLDEN)
    logits = by_pixel(golden.tensor("smoothing_logits")).requires_grad_()
    targets = torch.nn.functional.one_hot(golden.tensor("smoothing_labels").flatten().long(), 2)
    smoothed = smooth_flagged(targets, golden.tensor("smoothing_flagged").flatten().bool(), 0.25)
    loss = -(smoothed * safe_logarithms(logits)).sum(1).mean()
    loss.backward()
    torch.testing.assert_close(loss.item(), golden["smoothing_loss"].item(), rtol=0, atol=1e-6)
    torch.testing.assert_close(logits.grad, by_pixel(golden.tensor("smoothing_gradient")), rtol=0, atol=1e-7)


@pytest.mark.parametrize("keep_fraction", [0.9, 0.6])
def test_a_step_of_the_tri_network_is_the_librarys(keep_fraction: float) -> None:
    golden, name = load_golden(GOLDEN), f"{100 * keep_fraction:.0f}"
    scores = [by_pixel(each).requires_grad_() for each in golden.tensor("tri_logits")]
    labels = golden.tensor("tri_labels").flatten().long()
    losses = [-safe_logarithms(each).gather(1, labels[:, None]).squeeze(1) for each in scores]
    kept = torch.stack([small_loss_weights(each.detach(), keep_fraction) > 0 for each in losses])
    assert torch.equal(kept, golden.tensor(f"tri_kept_{name}").bool())
    for number, wanted in enumerate(golden[f"tri_losses_{name}"]):
        both = kept[number - 1] & kept[number - 2]
        assert losses[number][both].mean().item() == pytest.approx(wanted, abs=1e-6)
    agreed_loss(losses, agreed_pixels(losses, keep_fraction, None), None).mean().backward()
    for each, gradient in zip(scores, golden.tensor(f"tri_gradient_{name}"), strict=True):
        torch.testing.assert_close(each.grad, by_pixel(gradient), rtol=0, atol=1e-8)


def test_the_consistency_with_the_mean_teacher_is_the_librarys() -> None:
    golden = load_golden(GOLDEN)
    student = by_pixel(golden.tensor("teacher_student")).requires_grad_()
    value = consistency(student, by_pixel(golden.tensor("teacher_teacher")).softmax(1)).mean()
    value.backward()
    torch.testing.assert_close(value.item(), golden["teacher_consistency"].item(), rtol=0, atol=1e-6)
    torch.testing.assert_close(student.grad, by_pixel(golden.tensor("teacher_gradient")), rtol=0, atol=1e-7)


def test_the_weight_and_the_decay_of_the_mean_teacher_are_the_librarys() -> None:
    golden, steps = load_golden(GOLDEN), (0, 1, 2, 50, 100)
    np.testing.assert_allclose([0.1 * ramp(step, 100) for step in steps], golden["teacher_weights"], atol=1e-12)
    # The factor of the teacher's weights, to which the library then fails to add the student's.
    np.testing.assert_allclose([average_decay(step, 0.99) for step in steps], golden["teacher_decays"], atol=1e-7)
