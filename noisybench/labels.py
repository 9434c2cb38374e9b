"""Label sets: what a noise model made of a dataset, with a manifest that pins every byte of it.

Two runs are comparable only on the same label set. A label set lives in a folder as `labels.parquet` or
`labels.csv` (columns split, index, clean, observed) and `manifest.json`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.dataset import Dataset
from noisybench.errors import UserError

if TYPE_CHECKING:
    import pandas

COLUMNS = ["split", "index", "clean", "observed"]


@dataclass(frozen=True)
class LabelSet:
    """Observed targets of the training and validation split, and their manifest.

    Attributes:
        train: (N,) int64 observed targets.
        validation: (M,) int64 observed targets.
        manifest: `sha256` over the observed targets, dataset, noise model with its parameters, convention and
            seed, nominal and realised rate, transition counts and the transition matrix where one was used.
    """

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    manifest: dict[str, Any]

    @property
    def hash(self) -> str:
        """SHA-256 over the observed targets and the dataset they belong to."""
        return str(self.manifest["sha256"])


def observed_hash(train: NDArray[np.int64], validation: NDArray[np.int64], dataset_hash: str) -> str:
    """SHA-256 over the observed targets (little-endian int64, training before validation) and the dataset hash."""
    digest = hashlib.sha256(dataset_hash.encode())
    for part in (train, validation):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part.astype("<i8").tobytes())
    return digest.hexdigest()


def rows_hash(*arrays: NDArray[np.int64]) -> str:
    """SHA-256 over which rows the labels belong to and what they are held against."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.astype("<i8").tobytes())
    return digest.hexdigest()


def transition_counts(clean: NDArray[np.int64], observed: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """(C, C) counts: row is the clean class, column the observed one."""
    return np.bincount(clean * num_classes + observed, minlength=num_classes**2).reshape(num_classes, num_classes)


def make_label_set(
    dataset: Dataset,
    train: NDArray[np.int64],
    validation: NDArray[np.int64],
    noise: dict[str, Any],
    matrix: NDArray[np.float64] | None,
) -> LabelSet:
    """Attach the manifest to observed targets.

    Args:
        dataset: what they belong to.
        train: (N,) observed training targets.
        validation: (M,) observed validation targets.
        noise: name, parameters, convention and nominal_rate of the noise model.
        matrix: (C, C) transition probabilities that were used, if the noise depends on the class alone.
    """
    manifest = {
        "format": 1,
        "sha256": observed_hash(train, validation, dataset.hash),
        "rows_sha256": rows_hash(
            dataset.train.index, dataset.train.targets, dataset.validation.index, dataset.validation.targets
        ),
        "dataset": {
            "name": dataset.name,
            "sha256": dataset.hash,
            "classes": list(dataset.class_names),
            "sizes": {"train": len(train), "validation": len(validation), "test": len(dataset.test)},
        },
        "noise": noise,
        **_measured(dataset.train.targets, train, dataset.validation.targets, validation, dataset.num_classes),
        "transition_matrix": None if matrix is None else matrix.tolist(),
    }
    return LabelSet(train, validation, manifest)


def _measured(
    clean: NDArray[np.int64],
    train: NDArray[np.int64],
    clean_validation: NDArray[np.int64],
    validation: NDArray[np.int64],
    num_classes: int,
) -> dict[str, Any]:
    return {
        "realised_rate": float(np.mean(clean != train)),
        "realised_rate_validation": float(np.mean(clean_validation != validation)) if len(validation) else None,
        "transition_counts": transition_counts(clean, train, num_classes).tolist(),
    }


def save(labels: LabelSet, dataset: Dataset, folder: Path, format: Literal["parquet", "csv"] = "parquet") -> Path:
    """Write a label set as a folder. Returns the folder.

    Raises:
        UserError: the folder holds another label set already.
    """
    import pandas

    manifest_file = folder / "manifest.json"
    if manifest_file.exists() and json.loads(manifest_file.read_text())["sha256"] != labels.hash:
        raise UserError(f"{folder} holds another label set already; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    parts = [("train", dataset.train, labels.train), ("validation", dataset.validation, labels.validation)]
    frame = pandas.concat(
        pandas.DataFrame({"split": name, "index": split.index, "clean": split.targets, "observed": observed})
        for name, split, observed in parts
    )
    if format == "csv":
        frame.to_csv(folder / "labels.csv", index=False, lineterminator="\n")
    else:
        frame.to_parquet(folder / "labels.parquet", index=False)
    manifest_file.write_text(json.dumps(labels.manifest, indent=2) + "\n")
    return folder


def read_table(path: Path) -> pandas.DataFrame:
    """Read a table of labels (`.csv` or `.parquet`).

    Raises:
        UserError: no such file, another format, or damaged.
    """
    import pandas

    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        if path.suffix == ".parquet":
            return pandas.read_parquet(path)
        if path.suffix == ".csv":
            return pandas.read_csv(path)
    except (ValueError, OSError, NotImplementedError) as error:
        raise UserError(f"{path}: cannot be read ({str(error).splitlines()[0]}); export it again") from None
    raise UserError(f"{path}: labels are read from .csv or .parquet files, not `{path.suffix}`")


def load(folder: Path) -> LabelSet:
    """Read a label set and check it against its manifest.

    Raises:
        UserError: files are missing, or the labels are not those of the manifest.
    """
    manifest_file = folder / "manifest.json"
    if not manifest_file.is_file():
        raise UserError(
            f"{folder}: no label set there (manifest.json is missing); make one with `noisybench labels make`"
        )
    try:
        manifest = json.loads(manifest_file.read_text())
        classes = len(manifest["dataset"]["classes"])
        dataset_hash, stated = manifest["dataset"]["sha256"], manifest["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{manifest_file}: not a manifest of a label set ({error!r}); make the label set again"
        ) from None
    tables = [folder / name for name in ("labels.parquet", "labels.csv") if (folder / name).exists()]
    if not tables:
        raise UserError(f"{folder}: labels.parquet or labels.csv is missing beside the manifest")
    table = read_table(tables[0])
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise UserError(f"{tables[0]}: column {', '.join(missing)} is missing; expected {', '.join(COLUMNS)}")
    parts = {name: table[table["split"] == name] for name in ("train", "validation")}
    try:
        arrays = {
            (name, column): part[column].to_numpy(dtype=np.int64)
            for name, part in parts.items()
            for column in COLUMNS[1:]
        }
    except (ValueError, TypeError, OverflowError):
        raise UserError(
            f"{tables[0]}: index, clean and observed must be whole numbers; make the label set again"
        ) from None
    train, validation = arrays["train", "observed"], arrays["validation", "observed"]
    found = observed_hash(train, validation, dataset_hash)
    rows = rows_hash(*(arrays[name, column] for name in parts for column in ("index", "clean")))
    if found != stated or rows != manifest.get("rows_sha256"):
        raise UserError(
            f"{tables[0]}: the labels do not match their manifest (SHA-256 {found[:12]}… is not {stated[:12]}…); "
            "a byte has changed since it was made. Make or copy the label set again"
        )
    measured = _measured(arrays["train", "clean"], train, arrays["validation", "clean"], validation, classes)
    wrong = [key for key, value in measured.items() if manifest.get(key) != value]
    if wrong:
        raise UserError(
            f"{manifest_file}: {', '.join(wrong)} does not follow from the labels beside it; make the label set again"
        )
    return LabelSet(train, validation, manifest)
