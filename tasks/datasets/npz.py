"""Images and labels in a `.npz` file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from noisybench.config.parameters import parameter
from noisybench.data.arrays import class_labels
from noisybench.data.class_names import read_class_names
from noisybench.data.dataset import RawSplit
from noisybench.data.images import to_channels_first
from noisybench.data.source import DatasetSource
from noisybench.errors import UserError
from noisybench.tasks.datasets._archives import array_files, read_arrays
from noisybench.utils.file_listing import Source
from noisybench.utils.places import expand_user
from noisybench.utils.seeds import Stream

NAMES = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("images", "labels"),
)


class Npz(DatasetSource):
    """Images and labels in one NumPy archive.

    Arrays are named x_train, y_train, x_test, y_test, or train_images, train_labels, test_images, test_labels, or
    images, labels; test arrays and `class_names` are optional. Images are uint8 of shape (N, H, W), (N, H, W, C) or
    (N, C, H, W) with 1 or 3 channels.
    """

    own_files = True
    path: Path | None = parameter(None, help="The .npz file")

    def data_files(self) -> Mapping[str, Source]:
        """Return the archive, or the arrays of the folder."""
        return {} if self.path is None else {"path": array_files(self.path)}

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read the arrays; pickled objects are rejected."""
        if self.path is None:
            raise UserError("dataset.path: set the .npz file, e.g. dataset.path=images.npz")
        path = expand_user(self.path)
        arrays = read_arrays(path)
        keys = next((names for names in NAMES if names[0] in arrays and names[1] in arrays), None)
        if keys is None:
            raise UserError(
                f"dataset.path: {path} must contain {' or '.join('/'.join(names[:2]) for names in NAMES)}, but contains "
                f"{', '.join(arrays)}"
            )
        splits = [
            RawSplit(
                _to_images(arrays[image], f"{path}: {image}"),
                class_labels(arrays[label], f"dataset.path: {path}: {label}"),
            )
            for image, label in zip(keys[::2], keys[1::2], strict=True)
            if image in arrays and label in arrays
        ]
        num_classes = max(int(split.targets.max(initial=0)) for split in splits) + 1
        class_names = arrays.get("class_names", np.arange(num_classes))
        names = read_class_names(class_names, f"dataset.path: {path}: class_names")
        return splits[0], splits[1] if len(splits) > 1 else None, names

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write random grayscale images of three classes, without a test split."""
        images = (Stream("npz example").uniform(120, 8, 8) * 256).astype(np.uint8)
        np.savez(folder / "images.npz", images=images, labels=np.arange(120) % 3)
        return {"path": str(folder / "images.npz")}


def _to_images(array: np.ndarray[Any, Any], location: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return (N, C, H, W) images of any supported layout."""
    if array.dtype != np.uint8:
        raise UserError(f"dataset.path: {location} must be uint8 with values 0 to 255, but is {array.dtype}")
    # If both axes could hold the channels, they are taken to be last.
    if array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[3] not in (1, 3):
        return np.ascontiguousarray(array)
    if array.ndim == 3 or (array.ndim == 4 and array.shape[3] in (1, 3)):
        return to_channels_first(array)
    raise UserError(
        f"dataset.path: {location} must have shape (N, H, W), (N, H, W, C) or (N, C, H, W), but has {array.shape}"
    )
