"""ADELE against the authors' code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from noisybench.data.label_sets.statistics import intersection_over_union
from noisybench.data.targets import MaskTargets
from noisybench.mitigations._mask_correction import correct_masks, fit_curve, multi_scale_divergence
from tests.golden.vectors import load_golden


@pytest.mark.parametrize("number", range(5))
def test_fits_are_the_authors(number: int) -> None:
    golden = load_golden("adele")
    curve = fit_curve(golden["curves"][number])
    assert curve is not None
    assert curve.shift == 0
    np.testing.assert_allclose((curve.a, curve.b, curve.c), golden["fits"][number], rtol=1e-3)


@pytest.mark.parametrize(("match", "rule"), [("both", "both"), ("prediction", "single")])
def test_corrections_are_the_authors(match: str, rule: str) -> None:
    golden = load_golden("adele")
    labels, predicted, confidence = (golden.tensor(name) for name in ("labels", "predicted", "confidence"))
    corrected = torch.cat([
        correct_masks(
            labels[image : image + 1],
            predicted[image : image + 1],
            confidence[image : image + 1],
            golden.tensor("memorized")[image],
            0.6,
            match,
            protect_small_objects=rule == "single",
        )
        for image in range(len(labels))
    ])  # fmt: skip
    assert torch.equal(corrected, golden.tensor(rule))
    changed = (corrected != labels).flatten(1).any(1)
    assert 0 < changed.sum() < len(labels)


def test_the_consistency_and_its_gradient_are_the_authors() -> None:
    golden = load_golden("adele")
    scores = [each.requires_grad_() for each in golden.tensor("scores")]
    divergence = multi_scale_divergence(scores, 0.8, golden.tensor("has_label"))
    divergence.sum().backward()
    torch.testing.assert_close(divergence.detach(), golden.tensor("divergence"), rtol=0, atol=1e-6)
    gradient = torch.stack([each.grad for each in scores if each.grad is not None])
    torch.testing.assert_close(gradient, golden.tensor("divergence_gradient"), rtol=0, atol=1e-6)
    opened = (divergence > 0).flatten(1).any(1)
    assert opened.tolist() == [False, False, True, False, False, False], "the others are confident without a label only"


def test_pooled_iou_is_the_authors() -> None:
    golden = load_golden("adele")
    counts = MaskTargets().transition_counts(golden["iou_targets"], golden["iou_predicted"], 4)
    np.testing.assert_allclose(intersection_over_union(counts), golden["iou"], atol=1e-12)
