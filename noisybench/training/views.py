"""Views: independently augmented copies of the examples of a batch, as mitigations request them."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisybench.errors import UserError, nearest
from noisybench.training.operations import OPERATIONS, RAND_AUGMENT, apply_operations, strengths

VIEWS = {
    "weak": "the budget's augmentation; always available",
    "weak_2": "a second, independent draw of the budget's augmentation",
    "contrastive": "a resized crop, flip, color jitter and grayscale",
}
"""Names and descriptions of the views without parameters that a mitigation may request."""

POLICIES = ("rand_augment", "auto_augment_cifar10", "auto_augment_imagenet", "auto_augment_svhn")
"""Policies that choose the operations of a `PolicyView`."""

MAX_MAGNITUDE = 30
"""Largest magnitude of RandAugment."""


@dataclass(frozen=True)
class PolicyView:
    """A view with operations that a policy chooses, then the budget's augmentation, then Cutout.

    This is the order of AutoAugment's authors (Cubuk et al. 2019). A resized crop precedes the operations and replaces the
    budget's augmentation. Operations are those of torchvision. Equal views of several mitigations are one view;
    `batch.views` has it by its value.

    Attributes:
        policy: name from `POLICIES`. RandAugment (Cubuk et al. 2020) applies `num_ops` operations to each image. AutoAugment
            draws one of the pairs of operations that were found for a dataset.
        num_ops: number of operations of RandAugment.
        magnitude: magnitude of its operations, 0 to 30; None draws one for each operation.
        probability: probability of each of its operations.
        cutout: smallest and largest side of the erased square, as fractions of the height (DeVries and Taylor 2017). It has
            the mean color of the training set.
        crop: the ``"budget"``'s augmentation, or a ``"resized"`` crop without flips instead.
        draw: number of the draw: views that differ in it alone are independent of each other.

    Raises:
        UserError: a parameter is out of range.

    Example:
        >>> PolicyView("rand_augment", num_ops=2, magnitude=10).describe()
        'rand_augment(num_ops=2, magnitude=10)'
        >>> PolicyView("auto_augment_cifar10", cutout=(0.5, 0.5)).describe()
        'auto_augment_cifar10(cutout=0.5)'
    """

    policy: Literal["rand_augment", "auto_augment_cifar10", "auto_augment_imagenet", "auto_augment_svhn"]
    num_ops: int = 2
    magnitude: int | None = 9
    probability: float = 1.0
    cutout: tuple[float, float] = (0.0, 0.0)
    crop: Literal["budget", "resized"] = "budget"
    draw: int = 1

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise UserError(f"view: unknown policy {self.policy}; {nearest(self.policy, POLICIES)}")
        checks = {
            "num_ops must be at least 1": self.num_ops >= 1,
            f"magnitude must be None or from 0 to {MAX_MAGNITUDE}": 0 <= (self.magnitude or 0) <= MAX_MAGNITUDE,
            "probability must be from 0 to 1": 0 <= self.probability <= 1,
            "cutout must be two increasing fractions of the height": 0 <= self.cutout[0] <= self.cutout[1] <= 1,
        }
        if problems := [f"view {self.policy}: {problem}" for problem, is_valid in checks.items() if not is_valid]:
            raise UserError(*problems)

    def describe(self) -> str:
        """Return the policy with the parameters that matter."""
        parts = []
        if self.policy == "rand_augment":
            magnitude = "random" if self.magnitude is None else self.magnitude
            parts += [f"num_ops={self.num_ops}", f"magnitude={magnitude}"]
            parts += [f"probability={self.probability:g}"] if self.probability < 1 else []
        sides = dict.fromkeys(self.cutout)
        parts += [f"cutout={'-'.join(f'{side:g}' for side in sides)}"] if self.cutout[1] else []
        parts += ["crop=resized"] if self.crop == "resized" else []
        parts += [f"draw={self.draw}"] if self.draw > 1 else []
        return f"{self.policy}({', '.join(parts)})"

    def operate(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """Return each of (B, C, H, W) uint8 images after operations of its own.

        Args:
            images: (B, C, H, W) uint8, with one channel or three.
            rng: random numbers on the host, which choose operations without a wait for the device.

        >>> images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
        >>> PolicyView("auto_augment_svhn").operate(images, np.random.default_rng(0)).shape
        torch.Size([2, 3, 8, 8])
        """
        count = len(images)
        if self.policy == "rand_augment":
            chosen = rng.integers(len(RAND_AUGMENT), size=(self.num_ops, count))
            magnitude = rng.integers(MAX_MAGNITUDE + 1, size=chosen.shape) if self.magnitude is None else self.magnitude
            levels = np.asarray(magnitude / MAX_MAGNITUDE)
            is_applied = rng.random(chosen.shape) < self.probability
        else:
            table = _auto_augment(self.policy.removeprefix("auto_augment_"))  # (P, 2, 3)
            # (2, B, 3): both operations of the pair that each image draws.
            pairs = table[rng.integers(len(table), size=count)].transpose(1, 0, 2)
            chosen, levels = pairs[..., 0].astype(np.int64), pairs[..., 2]
            is_applied = rng.random(chosen.shape) < pairs[..., 1]
        signs = 1 - 2 * rng.integers(2, size=chosen.shape)
        height, width = images.shape[-2:]
        values = strengths(chosen, levels, signs, (height, width))
        chosen = np.where(is_applied, chosen, OPERATIONS.index("Identity"))
        for operations, amounts in zip(chosen, values, strict=True):
            images = apply_operations(images, operations, amounts)
        return images

    def erase(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return (B, C, H, W) normalized images with a square of zeros, the mean color, around a random pixel of each.

        >>> view = PolicyView("rand_augment", cutout=(0.5, 0.5))
        >>> view.erase(torch.ones(1, 1, 4, 4), torch.Generator().manual_seed(0)).sum() < 16
        tensor(True)
        """
        smallest, largest = self.cutout
        if not largest:
            return images
        height, width = images.shape[-2:]
        row, column, side = torch.rand((3, len(images), 1), generator=generator, device=images.device)
        half = (smallest + (largest - smallest) * side) * height / 2

        def is_inside(center: Tensor, length: int) -> Tensor:
            start = (center * length).floor() - half.floor()
            position = torch.arange(length, device=images.device)
            return torch.logical_and(position >= start, position < start + 2 * half.floor())

        erased = is_inside(row, height)[:, :, None] & is_inside(column, width)[:, None, :]
        return images.masked_fill(erased[:, None], 0.0)


View = str | PolicyView
"""A name from `VIEWS`, or a view with parameters."""


@functools.cache
def _auto_augment(dataset: str) -> NDArray[np.float64]:
    """Return the (P, 2, 3) position, probability and level of both operations of each pair that AutoAugment has found."""
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy

    # Ten magnitudes, of which 0 is the weakest; an operation without a magnitude has level 0.
    return np.array([
        [(OPERATIONS.index(name), probability, (magnitude or 0) / 9) for name, probability, magnitude in pair]
        for pair in AutoAugment(AutoAugmentPolicy(dataset)).policies
    ])  # fmt: skip


def describe_view(view: View) -> str:
    """Return the name of a view, with its parameters."""
    return view if isinstance(view, str) else view.describe()


def sorted_views(views: Iterable[View]) -> tuple[View, ...]:
    """Return different views in a fixed order, with the weak one: names in the order of `VIEWS`, then the others.

    >>> sorted_views(["weak_2", "weak_2"])
    ('weak', 'weak_2')
    """
    requested = {"weak", *views}
    return (
        *(name for name in VIEWS if name in requested),
        *sorted((view for view in requested if isinstance(view, PolicyView)), key=repr),
    )


def view_problems(requested: Iterable[View], available: Iterable[str]) -> list[str]:
    """Return the reasons why a task cannot draw some views.

    Args:
        requested: views that a mitigation reads.
        available: names of the views that the task draws; ``policy`` for a `PolicyView`.

    >>> view_problems(["waek_2"], VIEWS)
    ['unknown view waek_2; did you mean `weak_2` or `weak`?']
    >>> view_problems([PolicyView("auto_augment_svhn")], ["weak"])
    ['it reads the view auto_augment_svhn(), but the task draws weak only; choose another mitigation or other parameters']
    """
    drawn, problems = tuple(available), []
    for view in requested:
        if isinstance(view, str) and view not in VIEWS:
            problems.append(f"unknown view {view}; {nearest(view, VIEWS)}")
        elif ("policy" if isinstance(view, PolicyView) else view) not in drawn:
            problems.append(
                f"it reads the view {describe_view(view)}, but the task draws {', '.join(drawn)} only; choose another "
                "mitigation or other parameters"
            )
    return problems
