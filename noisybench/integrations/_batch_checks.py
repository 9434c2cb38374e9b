"""Checks of the batches that a user's loop gives to a loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from noisybench.errors import UserError, show

SUM_TOLERANCE = 0.01
"""Largest difference of a sum of target probabilities from 1, also in half precision."""


def check_batch(logits: Any, targets: Any, index: Any, num_classes: int | None) -> None:
    """Check what is known of a batch without reading a value.

    Args:
        logits: (N, C) or (N, C, ...) scores.
        targets: (N,) or (N, ...) class indices, or probabilities in the shape of the logits.
        index: (N,) positions of the examples in the training set, or None.
        num_classes: number of classes, or None if it is that of the logits.

    Raises:
        UserError: shapes or types do not agree.

    >>> check_batch(torch.zeros(2, 3), torch.tensor([0, 1, 2]), None, None)
    Traceback (most recent call last):
    noisybench.errors.UserError: losses: 2 examples in logits, but 3 in targets
    """
    if not torch.is_tensor(logits) or not torch.is_tensor(targets):
        kinds = f"{type(logits).__name__} and {type(targets).__name__}"
        raise UserError(f"losses: logits and targets must be tensors of torch, but are {kinds}")
    shape = tuple(logits.shape)
    if not logits.is_floating_point() or logits.ndim < 2 or 0 in shape or shape[1] < 2:
        raise UserError(
            f"losses: logits must be (N, C) or (N, C, ...) floating-point scores of at least two classes, but are "
            f"{_describe(logits)}"
        )
    if num_classes is not None and shape[1] != num_classes:
        raise UserError(
            f"losses: logits of the shape {shape} have {shape[1]} classes, but num_classes is {num_classes}"
        )
    if targets.ndim and len(targets) != shape[0]:
        raise UserError(f"losses: {shape[0]} examples in logits, but {len(targets)} in targets")
    labels_shape = (shape[0], *shape[2:])
    expected = shape if targets.is_floating_point() else labels_shape
    if targets.dtype == torch.bool or targets.is_complex() or tuple(targets.shape) != expected:
        raise UserError(
            f"losses: targets must be class indices of the shape {labels_shape}, or probabilities of the shape {shape} of "
            f"the logits, but are {_describe(targets)}"
        )
    if index is None:
        return
    if not torch.is_tensor(index) or tuple(index.shape) != shape[:1] or index.is_floating_point():
        raise UserError(
            f"losses: index must have one whole number for each of the {shape[0]} examples of the batch, but is "
            f"{_describe(index) if torch.is_tensor(index) else show(index)}"
        )


def check_values(targets: Tensor, index: Tensor | None, num_classes: int, num_examples: int | None) -> None:
    """Check targets and positions of a batch; on a GPU, the host waits for it.

    Args:
        targets: class indices, or probabilities.
        index: (N,) positions of the examples in the training set, or None.
        num_classes: number of classes.
        num_examples: number of training examples, or None if it is unknown.

    Raises:
        UserError: a target is no class or probability, or a position is no training example.

    >>> check_values(torch.tensor([0, 2]), None, 2, None)
    Traceback (most recent call last):
    noisybench.errors.UserError: losses: targets must be in [0, 1], the classes of the logits, but got 2
    """
    if targets.is_floating_point():
        unlikely = (targets.float().sum(1) - 1).abs() > SUM_TOLERANCE
        if bool((targets < 0).any() | ~targets.isfinite().all() | unlikely.any()):
            raise UserError(
                "losses: target probabilities must be finite, at least 0 and sum to 1 for each label; give class indices as "
                "integers"
            )
    elif bool((outside := (targets < 0) | (targets >= num_classes)).any()):
        wrong = int(targets[outside][0])
        advice = f"; set ignore_index={wrong} if it marks missing labels" if wrong < 0 else ""
        raise UserError(
            f"losses: targets must be in [0, {num_classes - 1}], the classes of the logits, but got {wrong}{advice}"
        )
    if index is not None and num_examples is not None:
        outside = (index < 0) | (index >= num_examples)
        if bool(outside.any()):
            raise UserError(
                f"losses: index must be in [0, {num_examples - 1}], the training examples, but got {int(index[outside][0])}"
            )


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} numbers of the shape {tuple(tensor.shape)}"
