"""Precomputed features of a backbone."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.arrays import exact_integers
from noisybench.data.dataset import RawSplit
from noisybench.data.labels.class_names import read_class_names
from noisybench.data.labels.columns import LabelColumn
from noisybench.data.labels.numeric_table import SUFFIXES, read_numeric_table
from noisybench.data.notes import ReadingNote, reading_note
from noisybench.data.parquet.features import read_feature_table
from noisybench.data.targets import OOD_TARGET, UNKNOWN_TARGET
from noisybench.errors import UserError, nearest
from noisybench.tasks.datasets._archives import array_files, read_arrays
from noisybench.tasks.datasets._labels import LabeledSource
from noisybench.utils.file_listing import Source
from noisybench.utils.places import expand_user
from noisybench.utils.seeds import Stream

REQUIRED = ("train_x", "train_y")
"""Arrays of the training split."""

FURTHER = ("train_noisy_y", "train_names", "train_groups", "train_is_validation")
"""Arrays of what else is known about the training split."""


class Features(LabeledSource):
    """Precomputed features of a frozen backbone: `train_x`, `train_y`, `id_x`, `id_y`, and `ood_NAME_x`, `ood_NAME_y`.

    The arrays are in one `.npz` file, as `noisybench embed` writes it, or in a folder with a `.npy` file for each name. A
    `.parquet` file has them as columns: `features`, `label` and, as far as there are, `split` (train, validation, test,
    ood_NAME), `noisy_label`, `name`, `group` and `is_validation`.
    A `.csv` or `.tsv` table has a column `label`, optionally `split`, and columns of numbers, which are the features.
    Features are (N, D) numbers, labels (N,) class indices. `id_` is the test split (default: held out by `test_fraction`),
    and every `ood_` pair is a test set of the same classes from another distribution. `train_noisy_y`, `train_names`,
    `train_groups` and `train_is_validation` are the noisy labels, file names, groups and validation examples of the source.
    The backbone itself is not needed. For the task `transfer` with the network `features`.
    """

    license = License("not applicable", access="own files")
    own_files = True
    tasks = ("transfer",)

    path: Path | None = parameter(None, help="The .npz, .parquet, .csv or .tsv file, or a folder of .npy files")

    def data_files(self) -> Mapping[str, Source]:
        """Return the archive, or the arrays of the folder."""
        return {} if self.path is None else {"path": array_files(self.path)}

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read and check all arrays; pickled objects are rejected."""
        splits, class_names = self._splits
        return splits["train"], splits.get("id"), class_names

    def read_shifted_tests(self) -> dict[str, RawSplit]:
        """Return the `ood_` pairs by name."""
        splits, _ = self._splits
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

    @functools.cached_property
    def _splits(self) -> tuple[dict[str, RawSplit], tuple[str, ...]]:
        """All splits by their prefix, and the class names."""
        arrays = self._read_arrays()
        prefixes = ["train", *(["id"] if "id_x" in arrays else []), *_ood_prefixes(arrays)]
        points = {prefix: _to_inputs(arrays, prefix) for prefix in prefixes}
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
            # Features take hundreds of megabytes, which are copied only where a row is left out.
            kept = inputs if len(rows) == len(inputs) else inputs[rows]
            splits[prefix] = RawSplit(kept, labels.targets[prefix][rows])
            if prefix == "train":
                further = _further_arrays(arrays, labels.targets[prefix], rows, len(labels.class_names))
                splits[prefix] = replace(splits[prefix], notes=(*labels.notes, *_unread(arrays, prefixes)), **further)
        return splits, labels.class_names

    def _read_labels(self, arrays: Mapping[str, NDArray[Any]], prefix: str) -> LabelColumn:
        """Return the labels of one split."""
        # Labels that training sees decide the classes; the best known ones may be unknown.
        name = "train_noisy_y" if prefix == "train" and "train_noisy_y" in arrays else f"{prefix}_y"
        count = len(arrays[f"{prefix}_x"])
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
        if path.suffix.lower() in SUFFIXES and path.is_file():
            arrays = read_numeric_table(path, "dataset.path")
        else:
            arrays = read_feature_table(path) if path.suffix == ".parquet" and path.is_file() else read_arrays(path)
        missing = [name for name in REQUIRED if name not in arrays]
        if missing:
            raise UserError(
                f"dataset.path: {path} has no {', '.join(missing)}; it contains {', '.join(arrays) or 'nothing'}"
                f"{'; ' + nearest(missing[0], arrays) if arrays else ''}"
            )
        for name in arrays:
            features = f"{name.removesuffix('_y')}_x"
            if re.fullmatch("id_y|ood_.*_y", name) and features not in arrays:
                raise UserError(f"dataset.path: {path} has no {features}, to which the labels {name} belong; add it")
        return arrays


def _unread(arrays: Collection[str], prefixes: Collection[str]) -> tuple[ReadingNote, ...]:
    """Return a note about arrays that have none of the names that are read."""
    known = {f"{prefix}_{kind}" for prefix in prefixes for kind in "xy"} | {"class_names", *FURTHER}
    unread = [name for name in arrays if name not in known]
    return reading_note("unread_arrays", "dataset.path: arrays were not read", unread)


def _ood_prefixes(arrays: dict[str, NDArray[Any]]) -> list[str]:
    """Return the prefixes of the shifted test sets."""
    return [name.removesuffix("_x") for name in arrays if name.startswith("ood_") and name.endswith("_x")]


def _further_arrays(
    arrays: Mapping[str, NDArray[Any]], labels: NDArray[np.int64], rows: NDArray[np.int64], num_classes: int
) -> dict[str, Any]:
    """Return what else is known about the training examples.

    Args:
        arrays: all arrays.
        labels: (N,) class indices that training sees.
        rows: (K,) rows with a label.
        num_classes: number of classes.

    Raises:
        UserError: an array has another type, size or value than its name says.
    """
    further: dict[str, Any] = {}
    for name, kinds, expected in (
        ("names", "U", "text"),
        ("groups", "U", "text"),
        ("is_validation", "b", "truth values"),
    ):
        values = arrays.get(f"train_{name}")
        if values is None:
            continue
        if values.shape != labels.shape or values.dtype.kind not in kinds:
            raise UserError(
                f"dataset.path: train_{name} must be {expected} of shape {labels.shape}, one for each row of train_x, but is "
                f"{values.dtype} of shape {values.shape}"
            )
        further[name] = values[rows]
    if "names" in further:
        further["names"] = tuple(further["names"].tolist())
    if "is_validation" in further:
        further["validation_mask"] = further.pop("is_validation")
    if "train_noisy_y" in arrays:
        clean = exact_integers(arrays["train_y"], "dataset.path: train_y")
        if clean.shape != labels.shape or not ((clean >= UNKNOWN_TARGET) & (clean < num_classes)).all():
            raise UserError(
                f"dataset.path: train_y must be {len(labels)} class indices below {num_classes}, or {OOD_TARGET} for "
                f"out-of-distribution and {UNKNOWN_TARGET} for unknown examples, beside train_noisy_y"
            )
        further |= {"targets": clean[rows], "noisy_targets": labels[rows]}
    return further


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
