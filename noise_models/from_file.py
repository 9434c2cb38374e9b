"""Labels that the user brings."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.data import label_files as labels
from noisybench.data.dataset import Dataset, Split
from noisybench.data.label_set import LabelSet, ReplacedImages
from noisybench.data.noise_model import NoiseModel
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream


class FromFile(NoiseModel):
    """Observed labels from a file, or a whole frozen label set from its folder.

    A `.csv` or `.parquet` file has a column `observed` with a class index or name per row, and either a column
    `index` that names the row of the dataset's source, or exactly one row per example of the source's training part
    in its order. A folder made by `noisybench labels make` is checked against its manifest and must belong to this
    very dataset. The dataset's own targets count as the clean ones.
    """

    stream_name = "FromFile"
    tasks = ("classification", "segmentation", "chain_of_thought")
    convention = "labels as given; the realised rate is measured against the dataset's own targets"

    requires_clean_labels = False

    path: Path | None = parameter(None, help="a .csv or .parquet file, or the folder of a label set")

    @classmethod
    def example(cls, dataset: Dataset, folder: Path) -> dict[str, Any]:
        """A table in which every third example of the source has the next class."""
        observed = np.zeros(dataset.source_size, dtype=np.int64)
        for split in (dataset.train, dataset.validation):
            observed[split.index] = (split.targets + (split.index % 3 == 0)) % dataset.num_classes
        lines = "\n".join(["observed", *(str(each) for each in observed), ""])
        (folder / "labels.csv").write_text(lines)
        return {"path": str(folder / "labels.csv")}

    def corrupt_labels(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[np.int64]:
        """The given labels of this split."""
        if self.path is None:
            raise UserError("noise.path: give the file or the folder that holds the labels, e.g. noise.path=labels.csv")
        path = self.path.expanduser()
        if dataset.target_kind.dense and not path.is_dir():
            raise UserError(
                "noise.path: masks and traces are frozen in a folder that `noisybench labels make` has written; bring masks of "
                "your own with noise=from_folder, traces with dataset=trace_file"
            )
        return self._frozen(path, dataset, split) if path.is_dir() else self._table(path, dataset, split)

    def replace_images(self, dataset: Dataset, split: Split) -> ReplacedImages | None:
        """The replaced images of a frozen label set."""
        if self.path is None or not self.path.expanduser().is_dir():
            return None
        return self._label_set.replaced.get("train" if split is dataset.train else "validation")

    def error_spans(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[np.uint8] | None:
        """What a frozen label set of traces says of their characters."""
        if dataset.trace_format is None:
            return None
        return self._label_set.error_spans.get("train" if split is dataset.train else "validation")

    @functools.cached_property
    def _label_set(self) -> LabelSet:
        """The frozen label set, read once."""
        assert self.path is not None
        return labels.load(self.path.expanduser())

    def _frozen(self, folder: Path, dataset: Dataset, split: Split) -> NDArray[np.int64]:
        frozen = self._label_set
        belongs = frozen.manifest["dataset"]["sha256"]
        if belongs != dataset.hash:
            raise UserError(
                f"noise.path: the label set in {folder} was made for the dataset {belongs[:12]}…, but this one is "
                f"{dataset.hash[:12]}… (other files, or another split: check the dataset's parameters)"
            )
        return frozen.train if split is dataset.train else frozen.validation

    def _table(self, path: Path, dataset: Dataset, split: Split) -> NDArray[np.int64]:
        table = labels.read_table(path)
        if "observed" not in table:
            raise UserError(
                f"noise.path: {path} has no column `observed` (it has {', '.join(map(str, table.columns))})"
            )
        observed = _class_indices(table["observed"].to_numpy(), dataset, path)
        if "index" in table:
            return _rows(observed, table["index"].to_numpy(dtype=np.int64), split, path)
        if len(observed) != dataset.source_size:
            raise UserError(
                f"noise.path: {path} has {len(observed)} labels, but the dataset's source has {dataset.source_size} training "
                "examples; give one label for each in the source's order, or add a column `index` with the source's rows"
            )
        own: NDArray[np.int64] = observed[split.index]
        return own


def _class_indices(given: NDArray[np.generic], dataset: Dataset, path: Path) -> NDArray[np.int64]:
    if np.issubdtype(given.dtype, np.integer):
        indices = given.astype(np.int64)
        wrong = (indices < 0) | (indices >= dataset.num_classes)
    else:
        position = {name: number for number, name in enumerate(dataset.class_names)}
        indices = np.array([position.get(str(name), -1) for name in given], dtype=np.int64)
        wrong = indices < 0
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise UserError(
            f"noise.path: row {row} of {path} has the label {given[row]!r}; allowed are 0 to {dataset.num_classes - 1} "
            f"or the class names ({', '.join(dataset.class_names[:5])}{' …' if dataset.num_classes > 5 else ''})"
        )
    return indices


def _rows(observed: NDArray[np.int64], index: NDArray[np.int64], split: Split, path: Path) -> NDArray[np.int64]:
    """Pick a split's rows by source row; every example must be labelled exactly once."""
    if len(np.unique(index)) != len(index):
        raise UserError(f"noise.path: an index occurs twice in {path}; each example needs one label")
    if (index < 0).any():
        raise UserError(f"noise.path: {path} has the index {index.min()}; source rows count from 0")
    position = np.full(int(max(index.max(initial=-1), split.index.max(initial=-1))) + 1, -1)
    position[index] = np.arange(len(index))
    found = position[split.index]
    if (found < 0).any():
        raise UserError(
            f"noise.path: {path} labels {len(index)} examples, but the example in row {split.index[found < 0][0]} of the "
            "dataset's source is not among them; every training and validation example needs a label"
        )
    own: NDArray[np.int64] = observed[found]
    return own
