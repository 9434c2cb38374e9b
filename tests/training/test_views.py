"""Views with parameters: their operations are torchvision's, their draws independent, their declarations checked."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import AutoAugment, AutoAugmentPolicy, v2

from noisybench.errors import UserError
from noisybench.training.operations import OPERATIONS, RAND_AUGMENT
from noisybench.training.roles import LossFunction
from noisybench.training.stack import Stack
from noisybench.training.task_contract import TaskContract
from noisybench.training.views import PolicyView, sorted_views, view_problems
from tests.helpers import prepared_toy, toy_dataset, train_toy

IMAGES = torch.randint(0, 256, (400, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


class Choices:
    """Random numbers that choose one operation or pair, always apply it, and give it one direction."""

    def __init__(self, choice: int, direction: int) -> None:
        self.choice, self.direction = choice, direction

    def integers(self, high: int, size: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.full(size, self.direction if high == 2 else self.choice)

    def random(self, size: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.zeros(size)


def torchvision_operation(images: torch.Tensor, name: str, strength: float) -> torch.Tensor:
    applied: torch.Tensor = v2.RandAugment()._apply_image_or_video_transform(
        images, name, strength, v2.InterpolationMode.NEAREST, {torch.Tensor: None}
    )
    return applied


@pytest.mark.fast
@pytest.mark.parametrize("dataset", ["cifar10", "imagenet", "svhn"])
def test_pairs_of_auto_augment_are_torchvisions(dataset: Any) -> None:
    pairs = AutoAugment(AutoAugmentPolicy(dataset)).policies
    view, images = PolicyView(f"auto_augment_{dataset}"), IMAGES[:4]  # type: ignore[arg-type]
    for number, pair in enumerate(pairs):
        for direction in (0, 1):
            wanted, is_exact = images, True
            for name, probability, magnitude in pair:
                by_bin, signed = v2.AutoAugment._AUGMENTATION_SPACE[name]
                strength = float(by_bin(10, 32, 32)[magnitude]) if magnitude is not None else 0.0
                # With a draw of zero, even an operation of probability zero of the published pairs would be applied.
                if probability > 0:
                    wanted = torchvision_operation(wanted, name, -strength if signed and direction else strength)
                    is_exact &= name in ("Posterize", "Solarize", "AutoContrast", "Equalize", "Invert")
            found = view.operate(images, Choices(number, direction))  # type: ignore[arg-type]
            differing = ((found.int() - wanted.int()).abs() > (0 if is_exact else 2)).double().mean().item()
            # A place that falls between two pixels may be read from either, and a later operation may spread that.
            assert differing < (1e-9 if is_exact else 0.02), f"{pair} {direction}: {differing:.2%}"


@pytest.mark.fast
def test_operations_are_drawn_with_their_probabilities() -> None:
    marked = []
    rng = np.random.default_rng(3)
    for _ in range(20):
        view = PolicyView("rand_augment", num_ops=1, magnitude=30, probability=0.5)
        marked.append((view.operate(IMAGES, rng) != IMAGES).flatten(1).any(1).double().mean().item())
    # Identity is one of 14, and posterizing, equalizing and others change nearly every random image.
    assert np.mean(marked) == pytest.approx(0.5 * 12 / 14, abs=0.04)


@pytest.mark.fast
def test_several_operations_follow_each_other() -> None:
    view = PolicyView("rand_augment", num_ops=2, magnitude=30)
    invert_twice = view.operate(IMAGES[:2], Choices(OPERATIONS.index("Solarize"), 0))  # type: ignore[arg-type]
    assert torch.equal(invert_twice, IMAGES[:2]), "at the largest magnitude, solarizing inverts every pixel"
    assert OPERATIONS[:14] == RAND_AUGMENT


@pytest.mark.fast
def test_erased_squares_are_those_of_cutout() -> None:
    view, ones = PolicyView("rand_augment", cutout=(0.5, 0.5)), torch.ones(4000, 2, 32, 32)
    erased = view.erase(ones, torch.Generator().manual_seed(0)) == 0
    assert torch.equal(erased[:, 0], erased[:, 1])
    heights, widths = erased[:, 0].any(2).sum(1), erased[:, 0].any(1).sum(1)
    assert torch.equal(erased[:, 0].flatten(1).sum(1), heights * widths), "rectangles"
    assert (heights.max(), widths.max(), heights.min()) == (16, 16, 8)
    # Centers near the border lose up to half of their rows.
    wanted = np.mean([min(center + 8, 32) - max(center - 8, 0) for center in range(32)])
    assert heights.double().mean().item() == pytest.approx(wanted, abs=0.1)
    sides = (PolicyView("rand_augment", cutout=(0.0, 0.5)).erase(ones, torch.Generator()) == 0)[:, 0].any(2).sum(1)
    assert sides.min() == 0
    assert torch.equal(PolicyView("rand_augment").erase(ones, torch.Generator()), ones)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"policy": "auto_augment_cifar"}, "did you mean `auto_augment_cifar10`"),
        ({"num_ops": 0}, "num_ops must be at least 1"),
        ({"magnitude": 31}, "magnitude must be None or from 0 to 30"),
        ({"probability": 1.5}, "probability must be from 0 to 1"),
        ({"cutout": (0.5, 0.2)}, "cutout must be two increasing fractions"),
    ],
)
def test_invalid_parameters_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataclasses.replace(PolicyView("rand_augment"), **changed)


class TwoStrongViews(LossFunction):
    """Train on both draws of one policy, and keep them."""

    views = (PolicyView("rand_augment", magnitude=None), PolicyView("rand_augment", magnitude=None, draw=2))

    @property
    def requirements(self) -> Any:
        return dataclasses.replace(super().requirements, views=self.views)

    def loss(self, task: Any, batch: Any) -> torch.Tensor:
        first, second = (batch.views[view] for view in self.views)
        assert not torch.equal(first, second)
        assert first.shape == second.shape == batch.inputs.shape
        losses: torch.Tensor = sum(
            torch.nn.functional.cross_entropy(task.logits(view), batch.observed, reduction="none")
            for view in (first, second)
        )
        return losses


@pytest.mark.fast
def test_equal_views_are_drawn_once_and_the_order_of_mitigations_does_not_matter() -> None:
    first, second = TwoStrongViews.views
    assert sorted_views([second, "weak_2", first, first]) == ("weak", "weak_2", first, second)
    assert Stack([TwoStrongViews()]).requirements.views == ("weak", first, second)
    # A policy of AutoAugment has no number of operations, so that their descriptions are equal.
    alike = [PolicyView("auto_augment_svhn", num_ops=number) for number in range(1, 9)]
    assert sorted_views(alike) == sorted_views(alike[::-1]) == ("weak", *alike)


def test_a_second_strong_view_is_independent(tmp_path: Path) -> None:
    prepared = prepared_toy("cross_entropy")
    recorder = train_toy(dataclasses.replace(prepared, stack=Stack([TwoStrongViews()])), tmp_path)
    assert recorder.complete


@pytest.mark.fast
def test_unknown_and_unavailable_views_are_refused_before_training() -> None:
    view = PolicyView("auto_augment_cifar10")
    assert view_problems(["weak", view], TaskContract.views) == [
        "it reads the view auto_augment_cifar10(), but the task draws weak only; choose another mitigation or other parameters"
    ]
    assert Stack([TwoStrongViews()]).check(["classification"], [], ["weak", "weak_2", "policy"]) == []
    (problem, _) = Stack([TwoStrongViews()]).check(["classification"], [], ["weak", "weak_2"])
    assert problem.startswith(
        "mitigations.test_views: it reads the view rand_augment(num_ops=2, magnitude=random), but"
    )
    assert problem.endswith("draws weak, weak_2 only; choose another mitigation or other parameters")


def test_images_with_two_channels_have_no_operations() -> None:
    toy = toy_dataset()
    two = {
        name: dataclasses.replace(getattr(toy, name), inputs=np.repeat(getattr(toy, name).inputs[:, :1], 2, 1))
        for name in ("train", "validation", "test")
    }
    with pytest.raises(
        UserError, match=r"mitigations\.sop_plus: the operations of auto_augment_cifar10.* these have 2"
    ):
        prepared_toy("sop_plus", dataset=dataclasses.replace(toy, **two))
