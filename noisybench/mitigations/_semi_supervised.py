"""Steps on labeled and unlabeled examples: the functions of DivideMix, PES (semi) and CORES*."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from noisybench.mitigations.mixup import draw_partners, mix
from noisybench.training.batch import BatchPlan

if TYPE_CHECKING:
    from noisybench.training.learner import Learner

RAMP_EPOCHS = 16
"""Epochs in which the weight of unlabeled examples increases linearly."""


def ramp_weight(epochs: float) -> float:
    """Return the fraction of the weight of unlabeled examples that is reached some epochs after its ramp began.

    >>> ramp_weight(0), ramp_weight(4), ramp_weight(20)
    (0.0, 0.25, 1.0)
    """
    return min(epochs / RAMP_EPOCHS, 1.0)


def unreached_weight(task: Learner, start: int) -> list[str]:
    """Return a warning in the last epoch if the ramp of the weight of unlabeled examples has not ended.

    Args:
        task: networks in training.
        start: epoch in which the ramp begins.
    """
    reached = ramp_weight(task.current_epoch + 1 - start)
    if task.current_epoch < task.budget.epochs - 1 or reached == 1:
        return []
    return [
        f"the weight of unlabeled examples reached at most {reached:.0%} of its target, because its ramp takes "
        f"{RAMP_EPOCHS} epochs after the warm-up"
    ]


def plan_steps(
    labeled: Tensor, unlabeled: Tensor, sizes: tuple[int, int], steps: int, phase: int = 0
) -> list[BatchPlan]:
    """Return batches of labeled examples, followed by unlabeled ones; both are repeated in their order as often as needed.

    Args:
        labeled: positions of the examples whose labels are used, in the order of training; at least one.
        unlabeled: positions of the others; without any, all batches are of labeled examples alone.
        sizes: number of labeled and of unlabeled examples in a batch.
        steps: number of batches.
        phase: number that is passed on to the batches.

    >>> [step.index.tolist() for step in plan_steps(torch.tensor([4, 5]), torch.tensor([7, 8, 9]), (1, 2), steps=2)]
    [[4, 7, 8], [5, 9, 7]]
    """
    parts = []
    for examples, size in zip((labeled, unlabeled), sizes, strict=True):
        positions = torch.arange(steps * size if len(examples) else 0, device=examples.device)
        parts.append((examples[positions % max(1, len(examples))], size))
    return [
        BatchPlan(torch.cat([part[step * size : (step + 1) * size] for part, size in parts]), phase)
        for step in range(steps)
    ]


def mean_of_parts(labeled: Tensor, unlabeled: Tensor) -> Tensor:
    """Return (B,) losses whose mean over the batch is the sum of the means of its two parts.

    >>> mean_of_parts(torch.tensor([1.0]), torch.tensor([4.0, 2.0])).mean()
    tensor(4.)
    """
    count = len(labeled) + len(unlabeled)
    return torch.cat([part * (count / len(part)) for part in (labeled, unlabeled) if len(part)])


def mixed_scores(
    task: Learner, views: Sequence[Tensor], targets: Tensor, alpha: float, network: int
) -> tuple[Tensor, Tensor]:
    """Return the scores of all views of a batch, each mixed with a partner among them, and the mixed targets.

    Args:
        task: networks in training.
        views: (B, ...) inputs.
        targets: (B, C) target probabilities, which all views share.
        alpha: both parameters of the Beta distribution of the weight, of which the larger part is the example's own.
        network: number of the network.
    """
    inputs, all_targets = torch.cat(list(views)), torch.cat([targets] * len(views))
    weight, partner = draw_partners(alpha, inputs, task.rng, task.generator)
    weight = max(weight, 1 - weight)  # the example itself dominates its partner
    return task.logits(mix(inputs, partner, weight), network), mix(all_targets, partner, weight)


def mixmatch_losses(
    logits: Tensor, targets: Tensor, num_views: int, size: int, class_weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the (size,) cross-entropies of labeled and the (B - size,) squared errors of unlabeled examples (MixMatch).

    Both are means over the views, and the squared error is one over the classes, so that the weight of that term does not
    depend on their number.

    Args:
        logits: (V B, C) scores, view by view.
        targets: (V B, C) target probabilities.
        num_views: number of views V.
        size: number of labeled examples, which come first in each view.
        class_weights: (C,) weights of the classes in the cross-entropy; equal by default.
    """
    # In float32: under mixed precision, a softmax in bfloat16 has too few digits for small probabilities.
    losses = targets * logits.float().log_softmax(1)
    labeled = -(losses if class_weights is None else losses * class_weights).sum(1)
    unlabeled = (logits.float().softmax(1) - targets).square().mean(1)
    return labeled.view(num_views, -1)[:, :size].mean(0), unlabeled.view(num_views, -1)[:, size:].mean(0)
