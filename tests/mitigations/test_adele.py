"""Tests of ADELE: onset of memorization, corrections and consistency."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from noisybench.data.label_sets.statistics import intersection_over_union
from noisybench.data.targets import IGNORED, MaskTargets
from noisybench.mitigations._mask_correction import (
    Curve,
    correct_masks,
    fit_curve,
    multi_scale_divergence,
    predict_views,
    rescale,
)
from noisybench.mitigations.adele import ADELE
from noisybench.training.batch import Batch

SHAPES = [(0.8, 1 / 3, 0.7, 12), (0.6, 2 / 3, 0.9, 5), (0.95, 1.25, 0.5, 5), (0.9, 0.2, 1.0, 13)]


def curve(a: float, b: float, c: float, count: int = 60, step: float = 1.0) -> np.ndarray[Any, Any]:
    times = step * np.arange(1, count + 1)
    return a * (1 - np.exp(-b * times**c))


@pytest.mark.parametrize(("a", "b", "c", "onset"), SHAPES)
def test_a_curve_without_noise_is_found_again(a: float, b: float, c: float, onset: int) -> None:
    found = fit_curve(curve(a, b, c))
    assert found is not None
    assert (found.a, found.b, found.c, found.shift) == pytest.approx((a, b, c, 0), rel=1e-3)
    assert found.onset(0.9, 60) == onset
    assert found.onset(0.9, onset - 1) is None, "not before it has happened"


@pytest.mark.parametrize(("a", "b", "c", "onset"), SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_noise_moves_the_onset_little(a: float, b: float, c: float, onset: int, seed: int) -> None:
    noisy = curve(a, b, c) + 0.02 * np.random.default_rng(seed).normal(size=60)
    found = fit_curve(noisy)
    assert found is not None
    assert abs((found.onset(0.9, 60) or 0) - onset) <= 4


@given(st.floats(0.05, 3), st.floats(0.3, 1.0), st.floats(0.5, 0.98))
@settings(max_examples=60, deadline=None)
def test_the_slope_falls_and_a_stricter_rule_comes_later(b: float, c: float, drop: float) -> None:
    found = Curve(0.8, b, c, 0.0)
    slopes = found.slope(np.arange(1, 30, dtype=np.float64))
    assert (np.diff(slopes) <= 1e-15).all()
    early, late = found.onset(drop * 0.9, 1000), found.onset(drop, 1000)
    assert late is None or (early is not None and early <= late)


@pytest.mark.parametrize(("b", "wanted"), [(2.0, 3), (1.0, 4), (0.5, 6), (1 / 3, 8)])
def test_the_onset_of_an_exponential_has_a_closed_form(b: float, wanted: int) -> None:
    assert Curve(0.7, b, 1.0, 0.0).onset(0.9, 100) == wanted == math.floor(1 + math.log(10) / b) + 1


@pytest.mark.parametrize(
    "points",
    [
        [0.0] * 20, [0.5], [0.5, 0.6], [], [math.nan] * 8, [0.3, math.nan, 0.5, 0.6], [0.05] * 30, [0.02, 0.05, 0.08, 0.09],
    ],
)  # fmt: skip
def test_curves_that_say_nothing_give_none(points: list[float]) -> None:
    assert fit_curve(points) is None


def test_a_class_that_is_learned_slowly_is_fitted_from_the_first_epoch() -> None:
    points = 0.04 * np.arange(1, 11)  # never an increase by 0.05
    found = fit_curve(points)
    assert found is not None
    assert found.shift == 0


@given(st.lists(st.floats(0, 1), min_size=0, max_size=25))
@settings(max_examples=80, deadline=None)
def test_no_curve_breaks_the_fit(points: list[float]) -> None:
    found = fit_curve(points)
    if found is not None:
        assert len(points) >= 3
        assert max(points) >= 0.1
        onset = found.onset(0.9, len(points))
        assert onset is None or 1 <= onset <= len(points)


def test_a_class_learned_in_the_first_epoch_fires_here_and_never_in_the_literal_rule() -> None:
    points = 0.5 + 0.2 * (1 - np.exp(-0.3 * np.arange(20)))
    ours = fit_curve(points)
    assert ours is not None
    assert ours.onset(0.9, 20) is not None
    assert fit_curve(points, literal=True) is None


def test_slow_classes_are_fitted_from_where_they_begin() -> None:
    points = np.concatenate([np.full(6, 0.01), curve(0.7, 0.6, 0.9, 20)])
    found = fit_curve(points)
    assert found is not None
    assert found.shift == 6
    alone = fit_curve(curve(0.7, 0.6, 0.9, 20))
    assert alone is not None
    assert found.onset(0.9, 26) == (alone.onset(0.9, 20) or 0) + 6


# Correction


def test_learning_begins_with_an_increase_by_a_twentieth() -> None:
    slow = [0.04, 0.08, 0.12]
    rising = [0.18, 0.24, 0.29, 0.33, 0.36]
    begun, waiting = fit_curve([0.06, *rising]), fit_curve([*slow, *rising])
    assert begun is not None
    assert begun.shift == 0
    assert waiting is not None
    assert waiting.shift == len(slow)


def maps(rows: list[list[int]]) -> Tensor:
    return torch.tensor([rows], dtype=torch.uint8)


def corrected_by(
    labels: Tensor, predicted: Tensor, active: list[bool], match: str = "both", confidence: float = 0.9, **more: Any
) -> Tensor:
    sure = torch.full(labels.shape, confidence)
    return correct_masks(
        labels, predicted, sure, torch.tensor(active), 0.8, match, **{"protect_small_objects": False, **more}
    )


BIKE, PERSON = 1, 2


def test_a_person_on_a_motorbike() -> None:
    labels = maps([[BIKE, BIKE, 0, PERSON]])
    predicted = maps([[PERSON, BIKE, 0, PERSON]])
    active = [True, False, True]  # the person is memorized, the motorbike is not
    assert corrected_by(labels, predicted, active, "prediction").tolist() == [[[PERSON, BIKE, 0, PERSON]]]
    assert corrected_by(labels, predicted, active, "both").tolist() == labels.tolist()
    assert corrected_by(labels, predicted, [True, True, True], "both").tolist() == [[[PERSON, BIKE, 0, PERSON]]]


def test_nothing_changes_at_or_below_the_threshold() -> None:
    labels, predicted = maps([[1, 1, 0, 2]]), maps([[2, 1, 1, 2]])
    assert torch.equal(corrected_by(labels, predicted, [True] * 3, confidence=0.8), labels)
    assert not torch.equal(corrected_by(labels, predicted, [True] * 3, confidence=0.8001), labels)
    assert torch.equal(
        correct_masks(labels, predicted, torch.ones(labels.shape), torch.tensor([True] * 3), 1.0, "both"), labels
    )


def test_background_alone_corrects_nothing() -> None:
    labels = maps([[1, 1, 0, 2]])
    assert corrected_by(labels, maps([[0, 0, 0, 0]]), [True, False, False]) is labels


def test_unlabeled_pixels_are_filled_by_one_rule_alone() -> None:
    labels, predicted = maps([[IGNORED, 1, 1, 0]]), maps([[1, 1, 1, 0]])
    assert corrected_by(labels, predicted, [True, True], "both")[0, 0, 0] == IGNORED
    assert corrected_by(labels, predicted, [True, True], "prediction")[0, 0, 0] == 1


def test_no_class_appears_in_an_image_that_lacks_it() -> None:
    labels, predicted = maps([[1, 1, 0, 0]]), maps([[2, 1, 2, 0]])
    for match in ("both", "prediction"):
        assert torch.equal(corrected_by(labels, predicted, [True] * 3, match), labels)
    empty = maps([[0, 0, 0, 0]])
    assert torch.equal(corrected_by(empty, predicted, [True] * 3, "both"), empty)
    assert corrected_by(empty, predicted, [True] * 3, "prediction").tolist() == predicted.tolist()
    only = maps([[1, 1, 1, 1]])
    assert torch.equal(corrected_by(only, maps([[0, 1, 1, 1]]), [True] * 2, "prediction"), only), "it has no background"
    assert corrected_by(only, maps([[0, 1, 1, 1]]), [True] * 2, "both")[0, 0, 0] == 0


def test_an_image_whose_object_would_vanish_keeps_its_labels() -> None:
    labels = torch.zeros(1, 10, 10, dtype=torch.uint8)
    labels[0, 0, :4] = 1
    predicted = torch.zeros_like(labels)
    predicted[0, 0, 0] = 1
    assert torch.equal(corrected_by(labels, predicted, [True, True], protect_small_objects=True), labels)
    assert int((corrected_by(labels, predicted, [True, True], protect_small_objects=False) == 1).sum()) == 1


def cases(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (6, 5, 5), generator=generator).to(torch.uint8)
    labels[torch.rand(labels.shape, generator=generator) < 0.1] = IGNORED
    labels[:2][labels[:2] == 3] = 0
    labels[2] = 0
    predicted = torch.randint(0, 4, labels.shape, generator=generator).to(torch.uint8)
    return labels, predicted, torch.rand(labels.shape, generator=generator), torch.rand(4, generator=generator) < 0.6


@given(st.integers(0, 20_000), st.sampled_from(["both", "prediction"]), st.booleans())
@settings(max_examples=300, deadline=None)
def test_what_corrections_keep(seed: int, match: str, protect: bool) -> None:
    labels, predicted, confidence, active = cases(seed)
    active[0] = True
    before = [each.clone() for each in (labels, predicted, confidence, active)]
    found = correct_masks(labels, predicted, confidence, active, 0.5, match, protect_small_objects=protect)
    for given_, kept in zip((labels, predicted, confidence, active), before, strict=True):
        assert torch.equal(given_, kept), "arguments are not changed"
    changed = found != labels
    assert (confidence[changed] > 0.5).all()
    assert active[found[changed].long()].all()
    if match == "both":
        assert torch.equal(found == IGNORED, labels == IGNORED)
        again = correct_masks(found, predicted, confidence, active, 0.5, match, labels, protect)
        assert torch.equal(again, found), "a second pass changes nothing"
        plain = correct_masks(labels, predicted, confidence, active, 0.5, match, protect_small_objects=False)
        stricter = correct_masks(labels, predicted, confidence, active, 0.7, match, protect_small_objects=False)
        fewer = active.clone()
        fewer[1] = False
        some = correct_masks(labels, predicted, confidence, fewer, 0.5, match, protect_small_objects=False)
        for part in (stricter, some):
            assert not ((part != labels) & (plain == labels)).any(), "what changes is a subset"


def test_a_pass_that_erases_all_does_not_open_the_image_to_any_class() -> None:
    labels, erase = maps([[1, 0, 0, 0]]), maps([[0, 0, 0, 0]])
    once = corrected_by(labels, erase, [True] * 3, "prediction")
    assert once.tolist() == erase.tolist()
    other = maps([[2, 2, 0, 0]])
    assert corrected_by(once, other, [True] * 3, "prediction").tolist() == other.tolist(), (
        "without the original labels it would"
    )
    assert torch.equal(corrected_by(once, other, [True] * 3, "prediction", allowed=labels), once)


def test_a_sure_and_right_network_gives_the_clean_masks() -> None:
    clean = torch.randint(0, 3, (3, 6, 6), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    noisy = clean.clone()
    noisy[:, 2:4] = (noisy[:, 2:4] + 1) % 3
    assert torch.equal(corrected_by(noisy, clean, [True] * 3), clean)


# The second element, and scores


def test_the_divergence_is_entropy_of_the_mean_minus_mean_of_entropies() -> None:
    generator = torch.Generator().manual_seed(0)
    several = [torch.randn(2, 4, 3, 3, generator=generator, requires_grad=True) for _ in range(3)]

    def entropy(each: Tensor) -> Tensor:
        return -torch.special.xlogy(each, each).sum(1)

    def slow(scores: list[Tensor]) -> Tensor:
        maps = [each.softmax(1) for each in scores]
        return entropy(torch.stack(maps).mean(0)) - torch.stack([entropy(each) for each in maps]).mean(0)

    found, wanted = multi_scale_divergence(several), slow(several)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(multi_scale_divergence(several[::-1]), wanted, rtol=1e-4, atol=1e-5)
    weights = torch.rand(2, 3, 3, generator=generator)
    for mine, autograd in zip(
        torch.autograd.grad((weights * found).sum(), several),
        torch.autograd.grad((weights * wanted).sum(), several),
        strict=True,
    ):
        torch.testing.assert_close(mine, autograd, rtol=1e-4, atol=1e-5)
    assert float(multi_scale_divergence([several[0]] * 3).detach().abs().max()) < 1e-5
    apart = [(1000 * torch.eye(3)[each].view(1, 3, 1, 1)).requires_grad_() for each in range(3)]
    surely = multi_scale_divergence(apart)
    assert float(surely.detach()) == pytest.approx(math.log(3))
    surely.sum().backward()
    assert all(each.grad is not None and bool(each.grad.isfinite().all()) for each in apart)
    assert float(multi_scale_divergence(several, min_confidence=1.01).detach().abs().max()) == 0


def test_the_gate_is_one_for_an_image() -> None:
    sure = torch.tensor([0.99, 0.01]).view(1, 2, 1, 1).expand(1, 2, 1, 2).clone()
    sure[:, :, 0, 1] = 0.5
    other = torch.full_like(sure, 0.5)
    both = [
        torch.cat([sure, other]),
        torch.cat([sure.flip(3), torch.tensor([0.6, 0.4]).view(1, 2, 1, 1).expand(1, 2, 1, 2)]),
    ]
    found = multi_scale_divergence([each.log() for each in both], min_confidence=0.7)
    assert (found[0] > 0).all()
    assert (found[1] == 0).all()


def test_a_pixel_without_a_label_does_not_open_the_gate() -> None:
    confident = torch.tensor([0.99, 0.01]).view(1, 2, 1, 1)
    unsure = torch.tensor([0.6, 0.4]).view(1, 2, 1, 1)
    scores = [torch.cat([confident, other], 3).log() for other in (unsure, unsure.flip(1))]
    labeled = torch.tensor([[[True, True]]])
    assert (multi_scale_divergence(scores, 0.8, labeled)[0, 0, 1] > 0).all()
    assert (multi_scale_divergence(scores, 0.8, torch.tensor([[[False, True]]])) == 0).all()


def test_the_gate_leaves_out_what_augmentation_has_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Tensor] = []
    monkeypatch.setattr(
        "noisybench.mitigations.adele.multi_scale_divergence",
        lambda scores, confidence, has_label: given.append(has_label) or 0 * scores[0].sum(1),
    )
    network, adele = nn.Conv2d(1, 2, 1), ADELE(correct=False, consistency=1.0, scales=[1.0, 1.5])
    in_image = torch.tensor([True, True, False, True])
    adele.state |= {
        "labels": torch.tensor([[[0, IGNORED], [1, 1]]], dtype=torch.uint8),
        "counts": torch.zeros(4).long(),
    }
    has_label = torch.tensor([True, False, False, True])
    batch = Batch(
        {"weak": torch.randn(1, 1, 2, 2)},
        torch.zeros(4).long(),
        torch.arange(4),
        2,
        has_label=has_label,
        in_image=in_image,
    )
    task: Any = SimpleNamespace(networks=[network])
    adele.wrap_loss(task, batch, lambda batch: network(batch.inputs).sum(1).new_zeros(4))
    assert torch.equal(given[0].flatten(), has_label)


def test_a_scale_of_one_leaves_images_as_they_are() -> None:
    images = torch.randn(1, 3, 8, 8)
    assert rescale(images, 1.0) is images
    assert rescale(images, 0.7).shape == (1, 3, 6, 6)


def test_iou_is_pooled_and_leaves_unlabeled_pixels_out() -> None:
    wanted = np.array([[[1, 1], [0, 0]], [[1, 0], [0, IGNORED]]], dtype=np.uint8)
    found = np.array([[[1, 0], [0, 0]], [[1, 1], [1, 1]]], dtype=np.uint8)
    iou = intersection_over_union(MaskTargets().transition_counts(wanted, found, 3))
    assert iou[1] == 2 / 5, "pooled: the mean over the images would be 5/12"
    assert iou[0] == 2 / 5
    assert np.isnan(iou[2])


@pytest.mark.parametrize("flip", [False, True])
def test_a_correction_predicts_the_mean_over_scales_and_mirror_images(flip: bool) -> None:
    network = nn.Conv2d(1, 3, 3, padding=1)  # sees the place of a pixel at the border, and left and right
    images = torch.randn(2, 1, 6, 8, generator=torch.Generator().manual_seed(0))
    shares = []
    with torch.no_grad():
        for scale in (0.5, 1.0, 2.0):
            for mirrored in [False, True] if flip else [False]:
                size = (round(6 * scale), round(8 * scale))
                seen = nn.functional.interpolate(images, size, mode="bilinear", align_corners=True)
                scores = network(torch.flip(seen, [3])).flip(3) if mirrored else network(seen)
                back = nn.functional.interpolate(scores, (6, 8), mode="bilinear", align_corners=True)
                shares.append(torch.exp(back) / torch.exp(back).sum(1, keepdim=True))
        wanted = torch.stack(shares).mean(0)
        confidence, predicted = predict_views(network, images, [0.5, 1.0, 2.0], flip=flip)
    torch.testing.assert_close(confidence, wanted.max(1).values)
    assert torch.equal(predicted, wanted.argmax(1).to(torch.uint8))
