"""Load datasets by name."""

from __future__ import annotations

from typing import Any

from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset
from noisybench.data.source import DatasetSource


def load_dataset(name: str, **parameters: Any) -> Dataset:
    """Load a dataset with its splits and class names.

    Args:
        name: name of a dataset (`noisybench list datasets`).
        parameters: its parameters, which `noisybench describe NAME` lists, such as ``root="photos"``.

    Returns:
        Dataset with the splits `train`, `validation` and `test`; each has `inputs` and integer `targets`, such as
        (N, C, H, W) uint8 images and (N,) int64 classes.

    Raises:
        UserError: the dataset is unknown, a parameter is invalid, or the data cannot be read.

    Example:
        >>> dataset = load_dataset("digits", train_size=100)
        >>> dataset.train.inputs.shape, len(dataset.class_names)
        ((100, 1, 8, 8), 10)
    """
    source: DatasetSource = get_entry("datasets", name, "dataset").load_class()(**parameters)
    return source.load()
