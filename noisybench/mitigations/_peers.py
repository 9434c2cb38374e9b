"""Peers: random training examples with the labels of others, and the loss and probability of the labels of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from noisybench.training.batch import Batch, probabilities_in_float32

if TYPE_CHECKING:
    from noisybench.training.learner import Learner

EPSILON = 1e-5
"""Added to a probability before its logarithm is taken, so that the loss of a label is at most 11.5 nats."""


def draw_peers(task: Learner, count: int) -> Batch:
    """Return random training examples, each with the observed label of another, independent one."""
    labels = task.training_set.targets[task.sampler.draw(count, task.generator)]
    return task.draw(count).with_labels(labels, None)


def bounded_cross_entropy(logits: Tensor, batch: Batch, epsilon: float = EPSILON) -> Tensor:
    """Return (B,) values of -sum_c t_c ln(p_c + epsilon) for (B, C) logits, in nats.

    >>> import torch
    >>> batch = Batch({"weak": torch.zeros(1, 1)}, torch.tensor([1]), torch.tensor([0]), num_classes=2)
    >>> bounded_cross_entropy(torch.tensor([[99.0, 0.0]]), batch)
    tensor([11.5129])
    """
    return -_of_targets((probabilities_in_float32(logits) + epsilon).log(), batch)


def target_probability(logits: Tensor, batch: Batch) -> Tensor:
    """Return the (B,) probabilities of the batch's targets in the softmax of (B, C) logits; the mean over soft targets.

    >>> import torch
    >>> batch = Batch({"weak": torch.zeros(1, 1)}, torch.tensor([1]), torch.tensor([0]), num_classes=4)
    >>> target_probability(torch.zeros(1, 4), batch)
    tensor([0.2500])
    """
    return _of_targets(probabilities_in_float32(logits), batch)


def _of_targets(values: Tensor, batch: Batch) -> Tensor:
    """Return the (B,) values of the targets among (B, C) values of all classes."""
    if batch.soft is None:
        return values.gather(1, batch.observed[:, None]).squeeze(1)
    return (batch.soft * values).sum(1)
