"""Features of a backbone of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.source import DatasetSource
from noisybench.errors import UserError, nearest
from noisybench.tasks.datasets._archives import read_arrays
from noisybench.utils.seeds import Stream

REQUIRED = ("train_x", "train_y", "id_x", "id_y")


class Features(DatasetSource):
    """Features that a frozen backbone gave, as arrays: `train_x`, `train_y`, `id_x`, `id_y`, and `ood_NAME_x`, `ood_NAME_y`.

    They come from one `.npz` file, or from a folder with a `.npy` file of each name. Features are (N, D) numbers, labels
    (N,) class indices. `id_` is the test split, every `ood_` pair a test set of the same classes from another
    distribution. Nothing of the backbone but these is needed. For the task `transfer`, with the network `features`.
    """

    tasks = ("transfer",)

    path: Path | None = parameter(None, help="the .npz file, or a folder of .npy files")

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read and check all arrays; pickled objects are refused."""
        arrays = self._arrays()
        sets = {prefix: _examples(arrays, prefix) for prefix in ["train", "id", *_shifted(arrays)]}
        train = sets["train"]
        width, known = train.inputs.shape[1], set(np.unique(train.targets).tolist())
        for prefix, each in sets.items():
            if each.inputs.shape[1] != width:
                raise UserError(
                    f"dataset.path: {prefix}_x has {each.inputs.shape[1]} features, but train_x has {width}; take the same "
                    "backbone for all"
                )
            unseen = sorted(set(np.unique(each.targets).tolist()) - known)
            if unseen:
                raise UserError(
                    f"dataset.path: {prefix}_y holds the labels {unseen[:5]}, which train_y does not; leave these examples out"
                )
        names = arrays.get("class_names", np.arange(max(known) + 1))
        return train, sets["id"], tuple(str(each) for each in names)

    def read_shifted_tests(self) -> dict[str, RawSplit]:
        """The `ood_` pairs, by their names."""
        arrays = self._arrays()
        return {prefix.removeprefix("ood_"): _examples(arrays, prefix) for prefix in _shifted(arrays)}

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Random features of three classes, with one shifted set."""
        stream = Stream("features example")
        arrays: dict[str, Any] = {}
        for prefix, count in (("train", 60), ("id", 30), ("ood_far", 30)):
            arrays[f"{prefix}_y"] = np.arange(count) % 3
            arrays[f"{prefix}_x"] = stream.normal(count, 5) + 3 * np.eye(3, 5)[arrays[f"{prefix}_y"]]
        np.savez(folder / "features.npz", **arrays)
        return {"path": str(folder / "features.npz")}

    def _arrays(self) -> dict[str, NDArray[Any]]:
        if self.path is None:
            raise UserError("dataset.path: give the .npz file or the folder, e.g. dataset.path=features.npz")
        path = self.path.expanduser()
        arrays = read_arrays(path)
        missing = [name for name in REQUIRED if name not in arrays]
        if missing:
            raise UserError(
                f"dataset.path: {path} lacks {', '.join(missing)}; it has {', '.join(arrays) or 'nothing'}"
                f"{'; ' + nearest(missing[0], arrays) if arrays else ''}"
            )
        return arrays


def _shifted(arrays: dict[str, NDArray[Any]]) -> list[str]:
    return [name.removesuffix("_x") for name in arrays if name.startswith("ood_") and name.endswith("_x")]


def _examples(arrays: dict[str, NDArray[Any]], prefix: str) -> RawSplit:
    """One pair of arrays as (N, D, 1, 1) float32 inputs and (N,) targets."""
    name, place = f"{prefix}_x", "dataset.path"
    points, labels = arrays[name], arrays.get(f"{prefix}_y")
    if labels is None:
        raise UserError(f"{place}: {name} has no labels; add {prefix}_y")
    if points.ndim != 2 or not np.issubdtype(points.dtype, np.number):
        raise UserError(f"{place}: {name} must be (N, D) numbers, but is {points.dtype} of shape {points.shape}")
    if labels.shape != (len(points),) or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"{place}: {prefix}_y must be {len(points)} whole numbers, one for each row of {name}, but is {labels.dtype} of "
            f"shape {labels.shape}"
        )
    wrong = int((~np.isfinite(points)).any(1).sum())
    if wrong:
        raise UserError(f"{place}: {wrong} of {len(points)} rows of {name} hold numbers that are not finite")
    if len(labels) and labels.min() < 0:
        raise UserError(f"{place}: {prefix}_y holds negative labels")
    return RawSplit(np.ascontiguousarray(points, dtype=np.float32)[:, :, None, None], labels.astype(np.int64))
