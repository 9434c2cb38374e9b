"""Map-style data sets of torch: their labels, and the same data set with other labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from noisybench.data.in_memory_tables import LABEL_COLUMNS, LabeledData
from noisybench.errors import UserError, nearest

CHECKED_ITEMS = 4
"""Number of items that are read twice, to find inputs that change at random."""


class RelabeledDataset(Dataset[Any]):
    """A data set with other labels, and if given, other inputs; items keep their form.

    Args:
        data: the data set, whose items are pairs of inputs and a label, or dictionaries.
        targets: label of each item.
        inputs: inputs of each item; None to keep those of the data set, with its transforms.
        key: key of the label in items that are dictionaries.

    Example:
        >>> data = TensorDataset(torch.zeros(2, 3), torch.tensor([0, 1]))
        >>> RelabeledDataset(data, [1, 1])[0]
        (tensor([0., 0., 0.]), tensor(1))
    """

    def __init__(self, data: Dataset[Any], targets: Any, inputs: Any = None, key: str | None = None) -> None:
        self.dataset, self.targets = data, targets
        self._inputs, self._key = inputs, key

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Any:
        item = self.dataset[index]
        if self._key is not None:
            changed = {**item, self._key: _in_form_of(item[self._key], self.targets[index])}
            if self._inputs is not None:
                changed[_input_key(item, self._key)] = self._inputs[index]
            return changed
        inputs = item[0] if self._inputs is None else self._inputs[index]
        parts = (inputs, _in_form_of(item[1], self.targets[index]), *item[2:])
        return list(parts) if isinstance(item, list) else parts


def open_torch_dataset(data: Dataset[Any], key: str | None) -> LabeledData:
    """Return the inputs and labels of a data set.

    Args:
        data: map-style data set.
        key: key of the labels, if items are dictionaries.

    Raises:
        UserError: the data set has no positions, or its items no label.

    Example:
        >>> data = TensorDataset(torch.zeros(2, 3), torch.tensor([0, 1]))
        >>> open_torch_dataset(data, None).labels
        [tensor(0), tensor(1)]
    """
    if isinstance(data, IterableDataset) or not hasattr(data, "__len__"):
        raise UserError(
            f"X is a {type(data).__name__} without positions, to which labels could belong; pass a data set with __getitem__ "
            "and __len__"
        )
    count = len(cast(Sized, data))
    if not count:
        raise UserError("X has no examples; pass a data set with at least one")
    key = _label_key(data[0], key)
    labels = labels_of(data, range(count), key)

    def inputs() -> list[Any]:
        read = [_inputs_of(data[index], key) for index in range(count)]
        for index in range(min(CHECKED_ITEMS, count)):
            if not _equal(read[index], _inputs_of(data[index], key)):
                raise UserError(
                    f"X: item {index} changes each time it is read, so that its transforms are random; pass the data set without "
                    "random transforms, and add them to the result"
                )
        return read

    whole: Any = data
    while isinstance(whole, Subset):
        whole = whole.dataset
    names = getattr(whole, "classes", None)
    is_named = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names) and len(names) > 1
    return LabeledData(
        labels,
        inputs,
        lambda targets, images: RelabeledDataset(data, targets, images, key),
        tuple(cast(Any, names)) if is_named else None,
    )


def _label_key(item: Any, key: str | None) -> str | None:
    if isinstance(item, Mapping):
        found = key if key is not None else next((name for name in LABEL_COLUMNS if name in item), None)
        if found is None or found not in item:
            raise UserError(
                f"y: items of X have no label `{key or LABEL_COLUMNS[0]}`; {nearest(key or '', map(str, item))}"
            )
        return found
    if key is not None:
        raise UserError(
            f"y: items of X are {type(item).__name__} without names, but y is the name `{key}`; leave y out"
        )
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise UserError(
            f"X: its items must be pairs of inputs and a label, or dictionaries, but are {type(item).__name__}; pass X and y"
        )
    return None


def labels_of(data: Any, rows: Sequence[int], key: str | None) -> list[Any]:
    """Return the labels of some rows, without reading inputs where the data set allows that.

    Args:
        data: data set whose items are pairs, or dictionaries.
        rows: positions.
        key: key of the labels in items that are dictionaries; None for pairs.

    Example:
        >>> labels_of([("first", 3), ("second", 5)], [1], None)
        [5]
    """
    if isinstance(data, Subset) and key is None:
        return labels_of(data.dataset, [data.indices[row] for row in rows], key)
    if isinstance(data, RelabeledDataset):
        return [data.targets[row] for row in rows]
    if isinstance(data, TensorDataset) and key is None:
        return [data.tensors[1][row] for row in rows]
    targets = getattr(data, "targets", None)
    if key is None and hasattr(targets, "__len__") and _are_targets(data, cast(Any, targets)):
        return [cast(Any, targets)[row] for row in rows]
    return [data[row][1 if key is None else key] for row in rows]


def _are_targets(data: Any, targets: Any) -> bool:
    """Return True if the attribute `targets` of a data set of torchvision has the labels of its items."""
    if len(targets) != len(data) or getattr(data, "target_transform", None) is not None:
        return False
    return all(_equal(data[row][1], targets[row]) for row in range(min(CHECKED_ITEMS, len(data))))


def _inputs_of(item: Any, key: str | None) -> Any:
    return item[0] if key is None else item[_input_key(item, key)]


def _input_key(item: Mapping[str, Any], key: str) -> str:
    others = [name for name in item if name != key]
    images = [
        name for name in others if name in ("image", "img", "pixel_values", "x", "input", "inputs", "text", "features")
    ]
    if len(others) == 1 or len(images) == 1:
        return (images or others)[0]
    raise UserError(
        f"X: its items have {', '.join(others)} beside `{key}`, of which any could be the inputs; pass X and y"
    )


def _equal(first: Any, second: Any) -> bool:
    return bool(np.array_equal(np.asarray(first), np.asarray(second)))


def _in_form_of(given: Any, value: Any) -> Any:
    """Return a label in the type and on the device of the given one."""
    if isinstance(given, torch.Tensor):
        return torch.as_tensor(value, dtype=given.dtype, device=given.device)
    if isinstance(given, np.generic):
        return given.dtype.type(value)
    return value
