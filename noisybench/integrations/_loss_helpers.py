"""Helpers of losses in a user's loop: positions of examples, mixup, and the estimate of the transition matrix."""

from __future__ import annotations

import warnings
from collections.abc import Sized
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from noisybench.errors import UserError, show
from noisybench.mitigations._transition import estimate_transitions_of_observed, implausible_rows
from noisybench.mitigations.mixup import draw_partners
from noisybench.training.batch import Mixing


class Indexed(Dataset[Any]):
    """A map-style dataset that yields each item with its position: ``(item, index)``.

    >>> Indexed(["a", "b"])[1]
    ('b', 1)
    """

    def __init__(self, dataset: Any) -> None:
        if not isinstance(dataset, Sized) or not hasattr(dataset, "__getitem__"):
            raise UserError(
                f"losses.Indexed: needs a dataset with a length and items by position, but got {type(dataset).__name__}; an "
                "iterable dataset has to yield the positions itself"
            )
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.dataset[index], index


def mixup(
    inputs: Any,
    targets: Any,
    num_classes: int,
    *,
    alpha: float = 1.0,
    rng: np.random.Generator | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Return a batch whose examples are mixed with random partners (Zhang et al. 2018).

    Args:
        inputs: (N, ...) floating-point inputs.
        targets: (N,) class indices, or (N, C) probabilities.
        num_classes: number of classes C.
        alpha: both parameters of the Beta distribution of the weight.
        rng: random numbers for the weight; by default those of NumPy, freshly seeded.
        generator: random numbers of torch for the partners, on the device of the inputs; by default the global ones.

    Returns:
        (N, ...) inputs and (N, C) target probabilities, which every loss of this module accepts.

    Raises:
        UserError: lengths differ, a target is no class, or alpha is not above 0.

    Example:
        >>> inputs, targets = mixup(torch.rand(4, 3), torch.tensor([0, 1, 1, 0]), num_classes=2)
        >>> inputs.shape, targets.shape
        (torch.Size([4, 3]), torch.Size([4, 2]))
    """
    if not alpha > 0:
        raise UserError(f"losses.mixup.alpha: must be above 0, but got {show(alpha)}")
    if not torch.is_tensor(inputs) or not torch.is_tensor(targets):
        kinds = f"{type(inputs).__name__} and {type(targets).__name__}"
        raise UserError(f"losses.mixup: inputs and targets must be tensors of torch, but are {kinds}")
    if len(inputs) != len(targets):
        raise UserError(f"losses.mixup: {len(inputs)} inputs, but {len(targets)} targets")
    if not inputs.is_floating_point():
        raise UserError(
            f"losses.mixup.inputs: must be floating-point numbers, but are {inputs.dtype}; convert them first"
        )
    if not targets.is_floating_point():
        if bool(((targets < 0) | (targets >= num_classes)).any()):
            raise UserError(
                f"losses.mixup.targets: must be in [0, {num_classes - 1}], but got {show(targets.tolist())}"
            )
        targets = functional.one_hot(targets.long(), num_classes).to(inputs.dtype)
    weight, partner = draw_partners(alpha, inputs, rng or np.random.default_rng(), generator)
    mixing = Mixing(inputs, partner, weight)
    return mixing.mix(inputs), mixing.mix(targets)


def estimate_transition(
    probabilities: Any,
    targets: Any,
    *,
    percentile: float | None = None,
    implausible: Literal["refuse", "warn"] = "refuse",
) -> Tensor:
    """Return the (C, C) transition matrix, estimated from predictions of a network that was trained on noisy labels.

    This is the estimate of `forward_correction` after its warm-up, by anchor points (Patrini et al. 2017).

    Args:
        probabilities: (N, C) predicted probabilities of the training examples.
        targets: (N,) observed class indices.
        percentile: percentile of the probability that selects a class's anchor point; by default it depends on the
            class's size.
        implausible: reaction to an implausible estimate: an error, or a warning.

    Raises:
        UserError: shapes do not agree, values are no probabilities or classes, or the estimate is implausible.

    Example:
        >>> estimate_transition([[0.8, 0.2], [0.3, 0.7]], [0, 1], percentile=100)
        tensor([[0.8000, 0.2000],
                [0.3000, 0.7000]])
    """
    place = "losses.estimate_transition"
    try:
        scores, observed = torch.as_tensor(probabilities), torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(
            f"{place}: needs (N, C) probabilities and (N,) class indices, but got {show(targets)}"
        ) from None
    if scores.ndim != 2 or scores.shape[1] < 2 or not scores.is_floating_point():
        raise UserError(f"{place}.probabilities: must be (N, C) numbers, but have the shape {tuple(scores.shape)}")
    if not bool((scores >= 0).all()) or not bool(((scores.sum(1) - 1).abs() < 1e-3).all()):
        raise UserError(f"{place}.probabilities: rows must be at least 0 and sum to 1; apply softmax to logits first")
    if observed.shape != scores.shape[:1] or observed.is_floating_point():
        raise UserError(
            f"{place}.targets: must be {len(scores)} class indices, one for each row of probabilities, but have the shape "
            f"{tuple(observed.shape)} and the type {observed.dtype}"
        )
    if bool(((observed < 0) | (observed >= scores.shape[1])).any()):
        raise UserError(f"{place}.targets: must be in [0, {scores.shape[1] - 1}], the classes of the probabilities")
    if percentile is not None and not 0 < percentile <= 100:
        raise UserError(f"{place}.percentile: must be in (0, 100], but got {show(percentile)}")
    if implausible not in ("refuse", "warn"):
        raise UserError(f"{place}.implausible: must be refuse or warn, but got {show(implausible)}")
    matrix = estimate_transitions_of_observed(scores.float(), observed.to(scores.device).long(), percentile)
    if rows := implausible_rows(matrix):
        problem = f"the estimated matrix is implausible for {rows}"
        if implausible == "refuse":
            raise UserError(
                f"{place}: {problem}; train longer before the estimate, try another percentile, or continue all the same "
                "with implausible='warn'"
            )
        warnings.warn(problem, stacklevel=2)
    return matrix
