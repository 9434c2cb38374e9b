"""Small parts of methods, each by hand: which errors a short training run hides."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from noisybench.errors import UserError
from noisybench.mitigations._detection import linear_separation
from noisybench.mitigations._mask_correction import fit_curve
from noisybench.mitigations._pseudo_loss import PseudoLossSelection
from noisybench.mitigations._small_loss import small_loss_weights
from noisybench.mitigations.grand import input_norms
from noisybench.mitigations.lora import LoRA
from noisybench.mitigations.t_loss import TLoss, _DegreesOfFreedom
from noisybench.nn.weights import load_backbone_weights
from noisybench.noise_models import human
from noisybench.noise_models._contours import jitter_contours
from noisybench.noise_models._masks import MaskContext
from noisybench.noise_models._ood_sources import ood_files
from noisybench.noise_models._regions import MaskObject
from noisybench.tasks.segmentation import Segmentation
from noisybench.training.batch import Batch
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import Stream
from tests.helpers import prepared_toy, train_toy


@pytest.mark.parametrize("size", [2, 3, 7])
def test_norms_of_inputs_are_those_of_whole_normalized_images(size: int) -> None:
    images = torch.randint(0, 256, (7, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    task: Any = SimpleNamespace(eval_batch_size=lambda inputs: size, normalize=lambda part: part.float() / 255 - 0.5)
    expected = [math.sqrt(((image / 255 - 0.5) ** 2).sum()) for image in images.numpy().astype(np.float64)]
    found = input_norms(task, TrainingSet(images, torch.zeros(7, dtype=torch.int64), 1))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_an_adapted_backbone_gives_scores_of_flat_features_and_stays_in_evaluation_mode() -> None:
    pytest.importorskip("peft")
    layers = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1)
    model = LoRA(rank=2).build_model(nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 3)))
    model.train()
    images = torch.randn(5, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    scores = model(images)
    assert scores.shape == (5, 3)
    assert torch.equal(scores, model(images)), "no dropout"
    assert layers[1].num_batches_tracked is not None
    assert int(layers[1].num_batches_tracked) == 0
    assert model.training


def t_losses(logits: Tensor, classes: Tensor, has_label: Tensor | None, images: int) -> Tensor:
    batch = Batch(
        {"weak": torch.zeros(images, 1, 1, 1)},
        classes,
        torch.arange(len(classes)),
        logits.shape[1],
        has_label=has_label,
    )
    task: Any = SimpleNamespace(
        logits=lambda inputs: logits, heads={"degrees_of_freedom": _DegreesOfFreedom(1.0)}, device=torch.device("cpu")
    )
    return TLoss().loss(task, batch)


def test_the_t_loss_of_labeled_pixels_does_not_depend_on_the_others() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, classes = torch.randn(8, 3, generator=generator), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    every = torch.ones(8, dtype=torch.bool)
    torch.testing.assert_close(t_losses(logits, classes, every, 2), t_losses(logits, classes, None, 2))
    has_label = torch.tensor([True, True, False, False, True, True, True, False])
    changed = logits.clone()
    changed[~has_label] += torch.randn(3, 3, generator=generator)
    changed.requires_grad_()
    losses = t_losses(changed, classes, has_label, 2)
    torch.testing.assert_close(losses, t_losses(logits, classes, has_label, 2))
    losses.sum().backward()
    assert changed.grad is not None
    assert bool((changed.grad[~has_label] == 0).all())
    assert bool((changed.grad[has_label] != 0).any(1).all())
    # As if the image consisted of its labeled pixels.
    alone = t_losses(logits[[0, 1]], classes[[0, 1]], None, 1)
    torch.testing.assert_close(losses.detach()[:4], alone.detach()[:1].expand(4))


def test_the_t_loss_of_one_binary_pixel_is_cauchys_density_and_of_none_is_finite() -> None:
    logits, classes = torch.tensor([[0.0, 0.0], [0.0, 0.0]]), torch.tensor([1, 0])
    degrees = math.e + 1e-8
    expected = -(
        math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - math.log(degrees * math.pi) / 2
        - (degrees + 1) / 2 * math.log1p(0.25 / degrees)
    )  # fmt: skip
    np.testing.assert_allclose(t_losses(logits, classes, torch.tensor([True, False]), 1).detach(), expected, rtol=1e-5)
    assert bool(t_losses(logits, classes, torch.zeros(2, dtype=torch.bool), 1).isfinite().all())


@given(st.floats(0.3, 0.9), st.floats(0.01, 0.2), st.integers(4, 20))
@settings(max_examples=30, deadline=None)
def test_no_fitted_curve_falls(start: float, fall: float, count: int) -> None:
    found = fit_curve([start * (1 - fall) ** step for step in range(count)])
    assert found is None or (0 <= found.a <= 1 and found.b >= 0 and 0 <= found.c <= 1)


@pytest.mark.parametrize("missing", [1, 3, 4])
def test_up_to_three_missing_weights_are_named(missing: int, tmp_path: Path) -> None:
    expected = {f"layer{number}.weight": torch.zeros(1) for number in range(5)}
    kept = list(expected)[missing:]
    torch.save({name: expected[name] for name in kept}, tmp_path / "weights.pt")
    with pytest.raises(UserError) as raised:
        load_backbone_weights(tmp_path / "weights.pt", expected, "checkpoint")
    names = ", ".join(list(expected)[: min(missing, 3)])
    assert f"{missing} of 5 weights are missing ({names}{', …' if missing > 3 else ''})," in str(raised.value)


def test_units_that_are_never_active_do_not_separate_flags() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 3, generator=generator)
    flags = features[:, 0] + torch.randn(60, generator=generator) > 0
    dead = torch.cat([features[:, :1], torch.zeros(60, 2), features[:, 1:]], 1)
    expected = linear_separation(features, flags)
    assert 0.5 < float(((expected > 0.5) == flags).float().mean()) < 1
    torch.testing.assert_close(linear_separation(dead, flags), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("device", "images"), [("cpu", 128), ("mps", 1024), ("cuda", 8192), ("xpu", 128)])
def test_masks_are_evaluated_in_portions_that_fit_the_device(device: str, images: int) -> None:
    task: Any = SimpleNamespace(device=torch.device(device))
    assert Segmentation.eval_batch_size(task, torch.empty(0, 3, 16, 64)) == images
    assert Segmentation.eval_batch_size(task, torch.empty(0, 3, 2**12, 2**12)) == 1


def test_published_human_labels_are_those_of_ten_and_of_a_hundred_classes() -> None:
    assert [human._location(classes).name for classes in (10, 100)] == ["CIFAR-10_human.pt", "CIFAR-100_human.pt"]
    assert human.PUBLISHED.keys() == {10, 100}


@pytest.mark.parametrize("kind", ["synthetic", "pixel_permuted", "image_folder", "places365", "imagenet32", "parquet"])
def test_a_source_of_images_reads_its_files(kind: str, tmp_path: Path) -> None:
    (tmp_path / "train_data_batch_2").touch()
    names = {"synthetic": [], "pixel_permuted": [], "imagenet32": ["train_data_batch_2"]}.get(kind, ["path"])
    assert list(ood_files(kind, tmp_path)) == names
    (tmp_path / "train_data_batch_2").unlink()
    assert list(ood_files(kind, tmp_path)) == (["path"] if names else [])


@pytest.mark.parametrize("examples", [None, torch.tensor([0, 0, 1])])
def test_a_batch_without_labels_keeps_none(examples: Tensor | None) -> None:
    valid = torch.zeros(3, dtype=torch.bool)
    assert small_loss_weights(torch.ones(3), 0.5, valid, examples).tolist() == [0, 0, 0]


def test_contours_are_jittered_at_vertices_a_pixel_apart_by_default() -> None:
    disc = (np.hypot(*np.mgrid[-9:10, -9:10]) < 8.5).astype(np.uint8)
    jittered = [
        jitter_contours(
            MaskObject(1, disc, 20, 20),
            2.0,
            MaskContext(Stream("jitter", 0), 1.0, 2, np.zeros((1, 64, 64), dtype=np.uint8)),
            **spacing,
            published=False,
        ).pixels
        for spacing in ({}, {"spacing": 1.0}, {"spacing": 0.0})
    ]
    np.testing.assert_array_equal(jittered[0], jittered[1])
    assert not np.array_equal(jittered[0], jittered[2])


@pytest.mark.parametrize(("name", "expected"), [("lsa", [(1, True), (2, False)]), ("pls", [(2, False)])])
def test_pseudo_labels_are_predicted_from_the_epoch_before_they_are_used(
    name: str, expected: list[tuple[int, bool]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only LSA weighs them at the end of the warm-up already; there each network keeps its own."""
    predicted = set()
    original = PseudoLossSelection._predict_pseudo_labels

    def recorded(mitigation: Any, task: Any, batch: Any, in_warmup: bool = False) -> Tensor:
        predicted.add((task.current_epoch, in_warmup))
        return original(mitigation, task, batch, in_warmup)

    monkeypatch.setattr(PseudoLossSelection, "_predict_pseudo_labels", recorded)
    stack = {"name": name, "warmup_epochs": 2, "warmup_steps": 0}
    train_toy(prepared_toy(stack, budget={"epochs": 3}), tmp_path)
    assert sorted(predicted) == expected
