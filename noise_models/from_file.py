"""Labels provided by the user."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.config.fidelity import Fidelity
from noisybench.config.parameters import parameter
from noisybench.data import label_files
from noisybench.data.arrays import exact_integers
from noisybench.data.dataset import Dataset, Split
from noisybench.data.label_set import LabelSet, ReplacedImages
from noisybench.data.noise_model import NoiseModel
from noisybench.data.targets import Targets
from noisybench.errors import UserError, show
from noisybench.utils.file_listing import Source
from noisybench.utils.places import expand_user
from noisybench.utils.seeds import Stream


class FromFile(NoiseModel):
    """Read observed labels from a table, or a frozen label set from its folder.

    A `.csv` or `.parquet` file has a column `observed` with a class index or name per row, and either a column
    `index` with the row of the example in the dataset's source, or exactly one row per training example of the source
    in its order. A folder written by `noisybench labels create` is checked against its manifest and must belong to the
    same dataset. The dataset's own targets are the clean labels.
    """

    stream_name = "FromFile"
    tasks = ("classification", "segmentation", "chain_of_thought")
    convention = "labels provided by the user; the actual noise rate is measured against the dataset's own targets"
    requires_clean_labels = False
    fidelity = Fidelity(
        reference="",
        commit="",
        compared="that labels are matched by source row or order, that frozen label sets come back byte by byte, and "
        "that tables with missing, repeated or unknown entries are refused",
    )

    path: Path | None = parameter(None, help="Table of labels (.csv or .parquet), or the folder of a label set")

    @classmethod
    def example(cls, dataset: Dataset, folder: Path) -> dict[str, Any]:
        """Write a table in which every third example of the source has the next class."""
        observed = np.zeros(dataset.source_size, dtype=np.int64)
        for split in (dataset.train, dataset.validation):
            # Rows of the source that are in neither split keep class 0; they are never used.
            observed[split.index] = (split.targets + (split.index % 3 == 0)) % dataset.num_classes
        (folder / "labels.csv").write_text("\n".join(["observed", *map(str, observed), ""]))
        return {"path": str(folder / "labels.csv")}

    def data_files(self) -> Mapping[str, Source]:
        """Return the table, or the files of a label set."""
        if self.path is None or not expand_user(self.path).is_dir():
            return super().data_files()
        return label_files.stored_files(expand_user(self.path))

    def corrupt_labels(self, dataset: Dataset, split: Split, stream: Stream) -> Targets:
        """Return the labels of the split from the file."""
        if self.path is None:
            raise UserError("noise.path: set the file or folder with the labels, e.g. noise.path=labels.csv")
        path = expand_user(self.path)
        if path.is_dir():
            return self._read_label_set(path, dataset, split)
        if dataset.target_kind.dense:
            raise UserError(
                "noise.path: masks and traces are read from a folder that `noisybench labels create` has written; provide "
                "other masks with noise=from_folder, and other traces with dataset=trace_file"
            )
        return self._read_table(path, dataset, split)

    def replace_images(self, dataset: Dataset, split: Split) -> ReplacedImages | None:
        """Return the replaced images of a frozen label set."""
        if self.path is None or not expand_user(self.path).is_dir():
            return None
        return self._label_set.replaced.get("train" if split is dataset.train else "validation")

    def error_spans(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[np.uint8] | None:
        """Return the error spans of a frozen label set of traces."""
        if dataset.trace_format is None:
            return None
        return self._label_set.error_spans.get("train" if split is dataset.train else "validation")

    @functools.cached_property
    def _label_set(self) -> LabelSet:
        """Frozen label set of the folder, read once."""
        assert self.path is not None
        return label_files.load(expand_user(self.path))

    def _read_label_set(self, folder: Path, dataset: Dataset, split: Split) -> Targets:
        labels = self._label_set
        # The hash covers the splits, so equal hashes mean that the rows of both are the same examples.
        expected = labels.manifest["dataset"]["sha256"]
        if expected != dataset.hash:
            raise UserError(
                f"noise.path: the label set in {folder} belongs to the dataset {expected[:12]}…, but this one is "
                f"{dataset.hash[:12]}… (different files or splits); check the dataset's parameters"
            )
        return labels.train if split is dataset.train else labels.validation

    def _read_table(self, path: Path, dataset: Dataset, split: Split) -> NDArray[np.int64]:
        table = label_files.read_table(path)
        if "observed" not in table:
            columns = ", ".join(map(str, table.columns))
            raise UserError(f"noise.path: {path} needs a column `observed`, but has {columns}")
        observed = _class_indices(table["observed"].to_numpy(), dataset, path)
        if "index" in table:
            index = exact_integers(table["index"].to_numpy(), f"noise.path: the column `index` of {path}")
            return _select_rows(observed, index, split, dataset.source_size, path)
        if len(observed) != dataset.source_size:
            raise UserError(
                f"noise.path: {path} has {len(observed)} labels, but the dataset's source has {dataset.source_size} training "
                "examples; provide one label for each in the order of the source, or add a column `index` with source rows"
            )
        labels: NDArray[np.int64] = observed[split.index]
        return labels


def _class_indices(values: NDArray[np.generic], dataset: Dataset, path: Path) -> NDArray[np.int64]:
    """Return class indices from indices or class names."""
    if np.issubdtype(values.dtype, np.integer):
        indices = values.astype(np.int64)
        invalid = (indices < 0) | (indices >= dataset.num_classes)
    else:
        index_of = {name: index for index, name in enumerate(dataset.class_names)}
        indices = np.array([index_of.get(str(name), -1) for name in values], dtype=np.int64)
        invalid = indices < 0
    if invalid.any():
        row = int(np.flatnonzero(invalid)[0])
        raise UserError(
            f"noise.path: row {row} of {path} has the label {show(values[row])}; allowed are 0 to {dataset.num_classes - 1} "
            f"or the class names ({', '.join(dataset.class_names[:5])}{' …' if dataset.num_classes > 5 else ''})"
        )
    return indices


def _select_rows(
    observed: NDArray[np.int64], index: NDArray[np.int64], split: Split, source_size: int, path: Path
) -> NDArray[np.int64]:
    """Return the labels of a split by source row; every example needs exactly one label."""
    if len(np.unique(index)) != len(index):
        raise UserError(f"noise.path: {path} contains an index twice; each example needs one label")
    # Negative rows would count from the end of the table below and label other examples.
    if (index < 0).any():
        raise UserError(f"noise.path: {path} contains the index {index.min()}, but source rows start at 0")
    if (index >= source_size).any():
        raise UserError(
            f"noise.path: {path} contains the index {index.max()}, but the dataset's source has {source_size} training "
            f"examples, numbered from 0 to {source_size - 1}"
        )
    # A row without a label reads -1.
    position = np.full(source_size, -1)
    position[index] = np.arange(len(index))
    selected = position[split.index]
    if (selected < 0).any():
        raise UserError(
            f"noise.path: {path} has {len(index)} labels, but none for row {split.index[selected < 0][0]} of the dataset's "
            "source; every training and validation example needs a label"
        )
    labels: NDArray[np.int64] = observed[selected]
    return labels
