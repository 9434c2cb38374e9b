"""Losses of labels, brought together by the examples that they belong to."""

from __future__ import annotations

import torch
from torch import Tensor

from noisybench.training.batch import Batch
from noisybench.training.training_set import TrainingSet


def example_of(batch: Batch, training_set: TrainingSet) -> Tensor:
    """(B,) which example of the training set each label of a batch is of."""
    return batch.index // (training_set.num_labels // len(training_set))


def small_loss_weights(
    losses: Tensor, keep: float, valid: Tensor | None = None, examples: Tensor | None = None
) -> Tensor:
    """(B,) weights that turn a mean over the valid labels into the mean over the ``keep`` share with the smallest losses.

    Args:
        losses: (B,) nats.
        keep: share in (0, 1], of labels or of whole examples by their mean loss; at least one is kept.
        valid: (B,) which labels count; None for all.
        examples: (B,) which example each is of, where these are kept or left out as wholes.
    """
    counted = torch.ones_like(losses) if valid is None else valid.float()
    if examples is None:
        count = max(1, int(keep * (len(losses) if valid is None else int(valid.sum()))))
        order = losses.masked_fill(counted == 0, torch.inf).argsort(stable=True)
        chosen = torch.zeros_like(losses).scatter_(0, order[:count], 1.0)
    else:
        own, place = torch.unique(examples, return_inverse=True)
        sums, counts = (torch.zeros(len(own), device=losses.device) for _ in range(2))
        means = sums.index_add_(0, place, losses * counted) / counts.index_add_(0, place, counted).clamp_min(1)
        order = means.argsort(stable=True)
        kept = torch.zeros(len(own), device=losses.device)
        kept[order[: max(1, int(keep * len(own)))]] = 1.0
        chosen = kept[place] * counted
    return chosen * (counted.sum() / chosen.sum().clamp_min(1))
