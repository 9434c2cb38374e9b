"""Items and batches of a user's training set for Lightning: their inputs, targets and positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from noisybench.data.in_memory_torch import labels_of
from noisybench.errors import UserError, show

TARGET_KEYS = ("target", "targets", "label", "labels")
"""Names of the target in items that are dictionaries."""


def split_batch(batch: Any) -> tuple[Any, Tensor, Tensor | None]:
    """Return inputs, targets and positions of a batch; positions are None if it has none.

    Raises:
        UserError: the batch is neither a pair nor a dictionary of inputs and targets, with or without positions.

    >>> inputs, targets, index = split_batch([{"image": torch.zeros(2, 3), "label": torch.tensor([0, 1])}, torch.tensor([5, 2])])
    >>> inputs.shape, targets.tolist(), index.tolist()
    (torch.Size([2, 3]), [0, 1], [5, 2])
    """
    index = None
    if isinstance(batch, list | tuple) and len(batch) == 2 and isinstance(batch[0], list | tuple | Mapping):
        batch, index = batch
    inputs, targets = split_item(batch)
    if not torch.is_tensor(targets):
        raise UserError(f"lightning: targets of a batch must be a tensor, but are {type(targets).__name__}")
    return inputs, targets, index


def split_item(item: Any) -> tuple[Any, Any]:
    """Return input and target of a pair, or of a dictionary.

    Raises:
        UserError: there are not exactly one input and one target.

    >>> split_item({"x": 3, "label": 1})
    (3, 1)
    """
    if isinstance(item, Mapping):
        targets = [key for key in item if key in TARGET_KEYS]
        inputs = [key for key in item if key not in TARGET_KEYS]
        if len(targets) == len(inputs) == 1:
            return item[inputs[0]], item[targets[0]]
        raise UserError(
            f"lightning: a dictionary of the training set must have one input and one of {', '.join(TARGET_KEYS)}, but has the "
            f"keys {show(list(item))}"
        )
    if isinstance(item, list | tuple) and len(item) == 2:
        return item[0], item[1]
    described = f"{len(item)} parts" if isinstance(item, list | tuple) else f"the type {type(item).__name__}"
    raise UserError(f"lightning: the training set must yield pairs (input, target), but an item has {described}")


def read_targets(dataset: Any) -> Tensor:
    """Return the targets of a dataset of pairs or dictionaries, as int64 numbers; inputs are read only if they must be.

    >>> read_targets([("a", 1), ("b", 0)])
    tensor([1, 0])
    """
    count = len(dataset)
    if not count:
        raise UserError("lightning.train_set: has no examples")
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) == 2:
        return as_targets(dataset.tensors[1], count)
    first = dataset[0]
    split_item(first)  # refuses other items
    key = next(key for key in first if key in TARGET_KEYS) if isinstance(first, Mapping) else None
    return as_targets(labels_of(dataset, range(count), key), count)


def as_targets(values: Any, length: int) -> Tensor:
    """Return (N, ...) class indices as int64.

    Args:
        values: tensor, array, or one label for each example.
        length: number of examples N.

    Raises:
        UserError: they are no whole numbers of one shape, or another number of labels.

    >>> as_targets([1, 0], 2)
    tensor([1, 0])
    """
    try:
        parts = values if torch.is_tensor(values) else np.stack([np.asarray(value) for value in values])
        targets = torch.as_tensor(parts)
    except (TypeError, ValueError):
        raise UserError("lightning.train_set: targets must be class indices, all of the same shape") from None
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise UserError(f"lightning.train_set: targets must be class indices, whole numbers, but are {targets.dtype}")
    if len(targets) != length:
        raise UserError(
            f"lightning.targets: must have one class for each of the {length} examples, but has {len(targets)}"
        )
    return targets.long()
