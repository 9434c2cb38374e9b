"""Precomputed features of a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.data.arrays import class_labels
from noisybench.data.class_names import read_class_names
from noisybench.data.dataset import RawSplit
from noisybench.data.source import DatasetSource
from noisybench.errors import UserError, nearest
from noisybench.tasks.datasets._archives import array_files, read_arrays
from noisybench.utils.file_listing import Source
from noisybench.utils.places import expand_user
from noisybench.utils.seeds import Stream

REQUIRED = ("train_x", "train_y", "id_x", "id_y")
"""Arrays of the training and the test split."""


class Features(DatasetSource):
    """Precomputed features of a frozen backbone: `train_x`, `train_y`, `id_x`, `id_y`, and `ood_NAME_x`, `ood_NAME_y`.

    The arrays are in one `.npz` file, or in a folder with a `.npy` file for each name. Features are (N, D) numbers, labels
    (N,) class indices. `id_` is the test split, and every `ood_` pair is a test set of the same classes from another
    distribution. The backbone itself is not needed. For the task `transfer` with the network `features`.
    """

    own_files = True
    tasks = ("transfer",)

    path: Path | None = parameter(None, help="The .npz file, or a folder of .npy files")

    def data_files(self) -> Mapping[str, Source]:
        """Return the archive, or the arrays of the folder."""
        return {} if self.path is None else {"path": array_files(self.path)}

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read and check all arrays; pickled objects are rejected."""
        arrays = self._read_arrays()
        splits = {prefix: _to_split(arrays, prefix) for prefix in ["train", "id", *_ood_prefixes(arrays)]}
        train = splits["train"]
        width, train_classes = train.inputs.shape[1], set(np.unique(train.targets).tolist())
        for prefix, split in splits.items():
            if split.inputs.shape[1] != width:
                raise UserError(
                    f"dataset.path: {prefix}_x has {split.inputs.shape[1]} features, but train_x has {width}; compute all "
                    "features with the same backbone"
                )
            unseen = sorted(set(np.unique(split.targets).tolist()) - train_classes)
            if unseen:
                raise UserError(
                    f"dataset.path: {prefix}_y contains the labels {unseen[:5]}, but train_y does not; remove these examples"
                )
        # The largest label decides, because labels may have gaps.
        num_classes = max(train_classes, default=0) + 1
        names = arrays.get("class_names", np.arange(num_classes))
        return train, splits["id"], read_class_names(names, "dataset.path: class_names")

    def read_shifted_tests(self) -> dict[str, RawSplit]:
        """Return the `ood_` pairs by name."""
        arrays = self._read_arrays()
        return {prefix.removeprefix("ood_"): _to_split(arrays, prefix) for prefix in _ood_prefixes(arrays)}

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write random features of three classes, with one shifted test set."""
        stream = Stream("features example")
        arrays: dict[str, Any] = {}
        for prefix, count in (("train", 60), ("id", 30), ("ood_far", 30)):
            arrays[f"{prefix}_y"] = np.arange(count) % 3
            arrays[f"{prefix}_x"] = stream.normal(count, 5) + 3 * np.eye(3, 5)[arrays[f"{prefix}_y"]]
        np.savez(folder / "features.npz", **arrays)
        return {"path": str(folder / "features.npz")}

    def _read_arrays(self) -> dict[str, NDArray[Any]]:
        if self.path is None:
            raise UserError("dataset.path: set the .npz file or the folder, e.g. dataset.path=features.npz")
        path = expand_user(self.path)
        arrays = read_arrays(path)
        missing = [name for name in REQUIRED if name not in arrays]
        if missing:
            raise UserError(
                f"dataset.path: {path} has no {', '.join(missing)}; it contains {', '.join(arrays) or 'nothing'}"
                f"{'; ' + nearest(missing[0], arrays) if arrays else ''}"
            )
        return arrays


def _ood_prefixes(arrays: dict[str, NDArray[Any]]) -> list[str]:
    """Return the prefixes of the shifted test sets."""
    return [name.removesuffix("_x") for name in arrays if name.startswith("ood_") and name.endswith("_x")]


def _to_split(arrays: dict[str, NDArray[Any]], prefix: str) -> RawSplit:
    """Return one pair of arrays as (N, D, 1, 1) float32 inputs and (N,) targets."""
    name = f"{prefix}_x"
    points, labels = arrays[name], arrays.get(f"{prefix}_y")
    if labels is None:
        raise UserError(f"dataset.path: {name} has no labels; add {prefix}_y")
    if points.ndim != 2 or points.dtype.kind not in "iuf":
        raise UserError(f"dataset.path: {name} must be (N, D) numbers, but is {points.dtype} of shape {points.shape}")
    if labels.shape != (len(points),) or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"dataset.path: {prefix}_y must be {len(points)} integers, one for each row of {name}, but is {labels.dtype} of "
            f"shape {labels.shape}"
        )
    targets = class_labels(labels, f"dataset.path: {prefix}_y")
    # A single NaN would turn all weights of the classifier into NaN in one step.
    not_finite = int((~np.isfinite(points)).any(1).sum())
    if not_finite:
        raise UserError(
            f"dataset.path: {not_finite} of {len(points)} rows of {name} contain values that are not finite"
        )
    # As images of one pixel with D channels, so that everything that handles inputs works for both.
    return RawSplit(np.ascontiguousarray(points, dtype=np.float32)[:, :, None, None], targets)
