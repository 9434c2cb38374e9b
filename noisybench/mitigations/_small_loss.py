"""Small-loss selection within a batch, for labels or for whole examples."""

from __future__ import annotations

import torch
from torch import Tensor

from noisybench.training.batch import Batch
from noisybench.training.training_set import TrainingSet


def example_index(batch: Batch, training_set: TrainingSet) -> Tensor:
    """Return the (B,) position in the training set of the example to which each label of a batch belongs."""
    return batch.index // (training_set.num_labels // len(training_set))


def small_loss_weights(
    losses: Tensor, keep_fraction: float, valid: Tensor | None = None, examples: Tensor | None = None
) -> Tensor:
    """Return (B,) weights that reduce the mean over valid labels to the mean over those with the smallest losses.

    Args:
        losses: (B,) nats.
        keep_fraction: fraction in (0, 1] of labels, or of whole examples by their mean loss; at least one is kept.
        valid: (B,) bool, True for labels that count; None for all.
        examples: (B,) example of each label, if whole examples are kept or left out.
    """
    counted = torch.ones_like(losses) if valid is None else valid.float()
    if examples is None:
        count = max(1, int(keep_fraction * (len(losses) if valid is None else int(valid.sum()))))
        # Labels that do not count sort last; a stable sort fixes the order of equal losses.
        order = losses.masked_fill(counted == 0, torch.inf).argsort(stable=True)
        kept = torch.zeros_like(losses).scatter_(0, order[:count], 1.0)
    else:
        unique, inverse = torch.unique(examples, return_inverse=True)
        sums, counts = (torch.zeros(len(unique), device=losses.device) for _ in range(2))
        means = sums.index_add_(0, inverse, losses * counted) / counts.index_add_(0, inverse, counted).clamp_min(1)
        order = means.argsort(stable=True)
        kept_examples = torch.zeros(len(unique), device=losses.device)
        kept_examples[order[: max(1, int(keep_fraction * len(unique)))]] = 1.0
        kept = kept_examples[inverse] * counted
    # The caller takes a mean over all valid labels, so the kept ones are scaled up by the inverse of their fraction.
    return kept * (counted.sum() / kept.sum().clamp_min(1))
