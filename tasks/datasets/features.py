"""Precomputed features of a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.data.class_names import read_class_names
from noisybench.data.dataset import RawSplit
from noisybench.data.label_columns import LabelColumn
from noisybench.errors import UserError, nearest
from noisybench.tasks.datasets._archives import array_files, read_arrays
from noisybench.tasks.datasets._labels import LabeledSource
from noisybench.utils.file_listing import Source
from noisybench.utils.places import expand_user
from noisybench.utils.seeds import Stream

REQUIRED = ("train_x", "train_y", "id_x", "id_y")
"""Arrays of the training and the test split."""


class Features(LabeledSource):
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
        splits, class_names = self._read_splits()
        return splits["train"], splits["id"], class_names

    def read_shifted_tests(self) -> dict[str, RawSplit]:
        """Return the `ood_` pairs by name."""
        splits, _ = self._read_splits()
        return {name.removeprefix("ood_"): split for name, split in splits.items() if name.startswith("ood_")}

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

    def _read_splits(self) -> tuple[dict[str, RawSplit], tuple[str, ...]]:
        """Return all splits by their prefix, and the class names."""
        arrays = self._read_arrays()
        points = {prefix: _to_inputs(arrays, prefix) for prefix in ["train", "id", *_ood_prefixes(arrays)]}
        width = points["train"].shape[1]
        for prefix, inputs in points.items():
            if inputs.shape[1] != width:
                raise UserError(
                    f"dataset.path: {prefix}_x has {inputs.shape[1]} features, but train_x has {width}; compute all features "
                    "with the same backbone"
                )
        columns = {prefix: self._read_labels(arrays, prefix) for prefix in points}
        names = arrays.get("class_names")
        declared = None if names is None else read_class_names(names, "dataset.path: class_names")
        labels = self.match_labels(columns, declared)
        splits = {}
        for prefix, inputs in points.items():
            rows = np.flatnonzero(labels.targets[prefix] >= 0)
            notes = labels.notes if prefix == "train" else ()
            splits[prefix] = RawSplit(inputs[rows], labels.targets[prefix][rows], notes=notes)
        return splits, labels.class_names

    def _read_labels(self, arrays: Mapping[str, NDArray[Any]], prefix: str) -> LabelColumn:
        """Return the labels of one split."""
        name, count = f"{prefix}_y", len(arrays[f"{prefix}_x"])
        if name not in arrays:
            raise UserError(f"dataset.path: {prefix}_x has no labels; add {name}")
        column = self.label_column(arrays[name], f"dataset.path: {name}")
        if len(column.codes) != count:
            raise UserError(
                f"dataset.path: {name} has {len(column.codes)} labels, but {prefix}_x {count} rows; each row needs one label"
            )
        return column

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


def _to_inputs(arrays: Mapping[str, NDArray[Any]], prefix: str) -> NDArray[np.float32]:
    """Return the features of one split as (N, D, 1, 1) float32 inputs."""
    name = f"{prefix}_x"
    points = arrays[name]
    if points.ndim != 2 or points.dtype.kind not in "iuf":
        raise UserError(f"dataset.path: {name} must be (N, D) numbers, but is {points.dtype} of shape {points.shape}")
    # A single NaN would turn all weights of the classifier into NaN in one step.
    not_finite = int((~np.isfinite(points)).any(1).sum())
    if not_finite:
        raise UserError(
            f"dataset.path: {not_finite} of {len(points)} rows of {name} contain values that are not finite"
        )
    # As images of one pixel with D channels, so that everything that handles inputs works for both.
    return np.ascontiguousarray(points, dtype=np.float32)[:, :, None, None]
