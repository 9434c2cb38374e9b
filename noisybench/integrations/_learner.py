"""The part of a task that losses read, for training loops outside of the harness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from noisybench.errors import UserError
from noisybench.training.batch import Batch, cross_entropy
from noisybench.training.training_set import TrainingSet


@dataclass(frozen=True)
class OpenEnd:
    """The budget of a loop whose number of epochs is not known: no epoch is the last."""

    epochs: int = 10**6


class GivenLogits:
    """A learner whose network has already been called: its inputs are the logits.

    It has what losses read of a `Learner`; everything else belongs to the harness.

    Attributes:
        training_set: number of examples, labels and classes; it has no inputs.
        heads: modules that losses train.
        current_epoch: number of the current epoch, from 0.
        budget: number of epochs.
    """

    active_network = 0

    def __init__(self, training_set: TrainingSet, heads: nn.ModuleDict) -> None:
        self.training_set, self.heads = training_set, heads
        self.current_epoch, self.budget = 0, OpenEnd()

    def logits(self, inputs: Tensor, network: int | None = None) -> Tensor:
        """Return (B, C) scores, one row for each label."""
        return flatten_scores(inputs)

    def default_loss(self, batch: Batch) -> Tensor:
        """Return the (B,) cross-entropy."""
        return cross_entropy(self.logits(batch.inputs), batch)

    def add_head(self, name: str, build: Callable[[], nn.Module]) -> None:
        """Train a further module, whose parameters are those of the loss."""
        self.heads[name] = build()

    def __getattr__(self, name: str) -> Any:
        # Copying and unpickling look up special names, which must be absent rather than an error of the user.
        if name.startswith("_"):
            raise AttributeError(name)
        raise UserError(
            f"losses: this mitigation reads `task.{name}`, which a loss outside of the harness does not have; train with "
            "it in the harness (`nb.run`)"
        )


def flatten_scores(scores: Tensor) -> Tensor:
    """Return (N P, C) scores, one row for each label, of (N, C, ...) scores with P labels per example.

    >>> flatten_scores(torch.zeros(2, 3, 4, 4)).shape
    torch.Size([32, 3])
    """
    return scores if scores.ndim == 2 else scores.movedim(1, -1).flatten(0, -2)


def label_space(num_examples: int, labels_per_example: int, num_classes: int) -> TrainingSet:
    """Return a training set that has the numbers of examples, labels and classes, but neither inputs nor labels.

    >>> label_space(10, 4, 2).num_labels
    40
    """
    shape = (num_examples,) if labels_per_example == 1 else (num_examples, labels_per_example)
    # Expanded from one number, so that it needs no memory.
    return TrainingSet(torch.empty(num_examples, 0), torch.zeros(1, dtype=torch.int64).expand(shape), num_classes)


def make_batch(
    view: Tensor, targets: Tensor, index: Tensor | None, num_classes: int, ignore_index: int | None
) -> Batch:
    """Return a batch of the harness, in which every label is an example of its own.

    Args:
        view: (N, ...) inputs, or the scores for them.
        targets: (N, ...) class indices, or (N, C, ...) probabilities in a floating-point type.
        index: (N,) positions of the examples in the training set; by default those in the batch.
        num_classes: number of classes C.
        ignore_index: class index of missing labels, or None if every label exists.

    >>> make_batch(torch.zeros(2, 5), torch.tensor([[0, 1], [1, -1]]), torch.tensor([7, 3]), 2, ignore_index=-1).index
    tensor([14, 15,  6,  7])
    """
    is_soft = targets.is_floating_point()
    observed = flatten_scores(targets) if is_soft else targets.flatten().long()
    labels_per_example = len(observed) // len(targets)
    has_label = None
    if not is_soft and ignore_index is not None:
        has_label = observed != ignore_index
        # Losses need a valid class where there is no label.
        observed = observed.masked_fill(~has_label, 0)
    examples = torch.arange(len(targets)) if index is None else index.long()
    positions = examples.to(observed.device)
    if labels_per_example > 1:
        within = torch.arange(labels_per_example, device=observed.device)
        positions = (positions[:, None] * labels_per_example + within).flatten()
    return Batch(
        {"weak": view},
        observed.argmax(1) if is_soft else observed,
        positions,
        num_classes,
        soft=observed.float() if is_soft else None,
        has_label=has_label,
    )
