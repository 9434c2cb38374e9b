"""Label sets: what a noise model made of a dataset, with a manifest that pins every byte of it.

Two runs are comparable only on the same label set. A label set lives in a folder as `labels.parquet` or
`labels.csv` (columns split, index, clean, observed), masks as `masks.npz` (arrays of these names), and `manifest.json`; where
images were replaced, they lie beside them in `images.npz`. A clean target of -1 says that the image is of none of the
classes, -2 that nobody knows; 255 in a mask that nobody has labelled the pixel.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.dataset import NONE, UNKNOWN, Dataset, Targets, known, target_bytes
from noisybench.errors import UserError

if TYPE_CHECKING:
    import pandas

COLUMNS = ["split", "index", "clean", "observed"]
MASKS = "masks.npz"
TRACES = "traces.jsonl"
REPLACED = ("rows", "images")

EVENTS = ("fits", "wrong", "carried on")
"""What a character of an observed trace can be: as it was; where it goes wrong; what follows. `UNTOLD` where nobody knows."""

FITS, WRONG, CARRIED_ON = range(len(EVENTS))
UNTOLD = 255

PORTION = 1024
"""Masks that are counted at a time."""

STATES = ("clean", "in_distribution", "out_of_distribution", "unknown")
"""What an example's observed label can be: right, of another class, on an image of no class, or nobody knows."""

CLEAN, IN_DISTRIBUTION, OUT_OF_DISTRIBUTION, UNKNOWN_STATE = range(len(STATES))


def noise_states(clean: Targets, observed: Targets) -> NDArray[np.int8]:
    """Positions in `STATES` from clean and observed targets of the same shape; of pixels without either nobody knows."""
    if clean.dtype == np.uint8:
        states = np.where(clean == observed, np.int8(CLEAN), np.int8(IN_DISTRIBUTION))
        states[~(known(clean) & known(observed))] = UNKNOWN_STATE
        return states
    states = np.where(clean == observed, CLEAN, IN_DISTRIBUTION)
    states = np.where(clean == NONE, OUT_OF_DISTRIBUTION, states)
    return np.where(clean == UNKNOWN, UNKNOWN_STATE, states).astype(np.int8)


@dataclass(frozen=True)
class Replaced:
    """Images of none of the classes, put in place of a split's own.

    Attributes:
        rows: (K,) int64 positions in the split, ascending.
        images: (K, C, H, W) uint8.
    """

    rows: NDArray[np.int64]
    images: NDArray[np.uint8]


@dataclass(frozen=True)
class LabelSet:
    """Observed targets of the training and validation split, and their manifest.

    Attributes:
        train: (N,) int64 observed targets, or (N, H, W) uint8 masks.
        validation: (M,) int64 observed targets, or (M, H, W) uint8 masks.
        manifest: `sha256` over the observed targets, dataset, noise model with its parameters, convention and
            seed, nominal and realised rate, transition counts and the transition matrix where one was used; of masks also
            what is left of every class (`masks`).
        replaced: replaced images by split, for noise that changes images as well.
        events: of traces by split, what each character of the observed response is; see `EVENTS`.
    """

    train: Targets
    validation: Targets
    manifest: dict[str, Any]
    replaced: Mapping[str, Replaced] = field(default_factory=dict)
    events: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)

    def states(self, clean: Targets) -> NDArray[np.int8]:
        """Positions in `STATES` of the training targets, from the clean ones; of traces as the noise model told."""
        if "train" not in self.events:
            return noise_states(clean, self.train)
        events = self.events["train"]
        states = np.where(events == FITS, np.int8(CLEAN), np.int8(IN_DISTRIBUTION))
        states[(events == UNTOLD) | ~known(self.train)] = UNKNOWN_STATE
        return states

    @property
    def hash(self) -> str:
        """SHA-256 over the observed targets, the replaced images and the dataset they belong to."""
        return str(self.manifest["sha256"])

    def applied_to(self, dataset: Dataset) -> Dataset:
        """The dataset as it is trained on: with the replaced images, whose targets are `NONE`."""
        return with_replaced(dataset, self.replaced)


def with_replaced(dataset: Dataset, replaced: Mapping[str, Replaced]) -> Dataset:
    """The dataset with other images in its training and validation split."""
    changed = {name: getattr(dataset, name).with_outsiders(each.rows, each.images) for name, each in replaced.items()}
    return replace(dataset, **changed) if changed else dataset


def observed_hash(
    train: Targets,
    validation: Targets,
    dataset_hash: str,
    replaced: Mapping[str, Replaced] | None = None,
) -> str:
    """SHA-256 over the dataset hash, the observed targets and the replaced images.

    Numbers are little-endian int64, masks bytes; the training split comes before the validation split.
    """
    digest = hashlib.sha256(dataset_hash.encode())
    for part in (train, validation):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(target_bytes(part))
    for name in ("train", "validation"):
        if replaced and name in replaced:
            digest.update(replaced[name].rows.astype("<i8").tobytes())
            digest.update(replaced[name].images.tobytes())
    return digest.hexdigest()


def rows_hash(*arrays: Targets) -> str:
    """SHA-256 over which rows the labels belong to and what they are held against."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(target_bytes(array))
    return digest.hexdigest()


def transition_counts(clean: Targets, observed: Targets, num_classes: int) -> NDArray[np.int64]:
    """(C, C) counts: row is the clean class, column the observed one; what has no known class is left out."""
    counts = np.zeros(num_classes**2, dtype=np.int64)
    for start in range(0, len(clean), PORTION):  # masks would need eight times their memory at once
        rows, columns = clean[start : start + PORTION], observed[start : start + PORTION]
        counted = known(rows) & known(columns)
        place = rows[counted].astype(np.int64) * num_classes + columns[counted]
        counts += np.bincount(place, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def intersection_over_union(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(C,) IoU of each class from (C, C) counts of pairs, pooled over all pixels; NaN for a class that occurs nowhere."""
    both = np.diag(counts).astype(np.float64)
    union = counts.sum(0) + counts.sum(1) - both
    return np.asarray(np.divide(both, union, out=np.full(len(both), np.nan), where=union > 0))


def mask_measures(counts: NDArray[np.int64]) -> dict[str, Any]:
    """What noise has left of masks, from (C, C) counts of clean and observed classes; class 0 is the background.

    Returns:
        `iou` by class (None where it occurs nowhere), their mean over the other classes than the background (`miou`), and the
        area of these after minus before, as a share of that before (`area_bias`).
    """
    iou = intersection_over_union(counts)
    clean, observed = int(counts[1:].sum()), int(counts[:, 1:].sum())
    return {
        "miou": None if np.isnan(iou[1:]).all() else float(np.nanmean(iou[1:])),
        "iou": [None if np.isnan(each) else float(each) for each in iou],
        "area_bias": observed / clean - 1 if clean else None,
    }


def make_label_set(
    dataset: Dataset,
    train: Targets,
    validation: Targets,
    noise: dict[str, Any],
    matrix: NDArray[np.float64] | None,
    replaced: Mapping[str, Replaced] | None = None,
    events: Mapping[str, NDArray[np.uint8]] | None = None,
) -> LabelSet:
    """Attach the manifest to observed targets.

    Args:
        dataset: what they belong to.
        train: (N,) observed training targets.
        validation: (M,) observed validation targets.
        noise: name, parameters, convention and nominal_rate of the noise model.
        matrix: (C, C) transition probabilities that were used, if the noise depends on the class alone.
        replaced: replaced images by split.
        events: of traces, by split.
    """
    replaced, events = replaced or {}, events or {}
    applied = with_replaced(dataset, replaced)
    clean, clean_validation = applied.train.targets, applied.validation.targets
    manifest = {
        "format": 1,
        "sha256": observed_hash(train, validation, dataset.hash, replaced),
        "rows_sha256": rows_hash(dataset.train.index, clean, dataset.validation.index, clean_validation),
        "dataset": {
            "name": dataset.name,
            "sha256": dataset.hash,
            "classes": list(dataset.class_names),
            "sizes": {"train": len(train), "validation": len(validation), "test": len(dataset.test)},
        },
        "noise": noise,
        **_measured(clean, train, clean_validation, validation, dataset.num_classes),
        "transition_matrix": None if matrix is None else matrix.tolist(),
    }
    if dataset.skipped:
        manifest["dataset"]["skipped"] = list(dataset.skipped)
    if events:
        manifest["events_sha256"] = rows_hash(events["train"], events["validation"])
    return LabelSet(train, validation, manifest, replaced, events)


def _measured(
    clean: Targets,
    train: Targets,
    clean_validation: Targets,
    validation: Targets,
    num_classes: int,
) -> dict[str, Any]:
    counts = transition_counts(clean, train, num_classes)
    measured = {
        "realised_rate": _rate(clean, train),
        "realised_rate_validation": _rate(clean_validation, validation),
        "transition_counts": counts.tolist(),
    }
    if clean.ndim == 3:
        measured["masks"] = mask_measures(counts)
    elif clean.ndim == 1 and (clean < 0).any():
        counts = np.bincount(noise_states(clean, train), minlength=len(STATES))
        measured["states"] = dict(zip(STATES, counts.tolist(), strict=True))
        measured["outsider_counts"] = np.bincount(train[clean == NONE], minlength=num_classes).tolist()
    return measured


def _rate(clean: Targets, observed: Targets) -> float | None:
    """Share of wrong labels among those of which it is known; an image of no class has a wrong one."""
    counted = known(clean) & known(observed) if clean.ndim > 1 else clean != UNKNOWN
    return float(np.mean(clean[counted] != observed[counted])) if counted.any() else None


def save(labels: LabelSet, dataset: Dataset, folder: Path, format: Literal["parquet", "csv"] = "parquet") -> Path:
    """Write a label set as a folder; masks have a format of their own. Returns the folder.

    Raises:
        UserError: the folder holds another label set already.
    """
    import pandas

    manifest_file = folder / "manifest.json"
    if manifest_file.exists() and json.loads(manifest_file.read_text())["sha256"] != labels.hash:
        raise UserError(f"{folder} holds another label set already; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    applied = labels.applied_to(dataset)
    parts = [("train", applied.train, labels.train), ("validation", applied.validation, labels.validation)]
    if labels.train.ndim > 1:
        columns: dict[str, Any] = {
            f"{name}_{column}": values
            for name, split, observed in parts
            for column, values in zip(COLUMNS[1:], (split.index, split.targets, observed), strict=True)
        } | {f"{name}_events": values for name, values in labels.events.items()}
        np.savez_compressed(folder / MASKS, **columns)
    else:
        frame = pandas.concat(
            pandas.DataFrame({"split": name, "index": split.index, "clean": split.targets, "observed": observed})
            for name, split, observed in parts
        )
        if format == "csv":
            frame.to_csv(folder / "labels.csv", index=False, lineterminator="\n")
        else:
            frame.to_parquet(folder / "labels.parquet", index=False)
    if dataset.traces is not None:
        _write_traces(labels, dataset, folder / TRACES)
    if labels.replaced:
        arrays = {f"{name}_{part}": getattr(each, part) for name, each in labels.replaced.items() for part in REPLACED}
        np.savez_compressed(folder / "images.npz", **arrays)
    manifest_file.write_text(json.dumps(labels.manifest, indent=2) + "\n")
    return folder


def _write_traces(labels: LabelSet, dataset: Dataset, path: Path) -> None:
    """All traces as texts, a JSON object in each line, to be read and to be used elsewhere."""
    form = dataset.traces
    assert form is not None
    observed = {"train": labels.train, "validation": labels.validation, "test": None}
    with path.open("w", encoding="utf-8") as file:
        for name, given in observed.items():
            split = getattr(dataset, name)
            prompts, responses = form.decode(np.asarray(split.inputs[:][:, 0, 0])), form.decode(split.targets)
            texts = [None] * len(split) if given is None else form.decode(given)
            for prompt, response, text in zip(prompts, responses, texts, strict=True):
                row = {"split": name, "prompt": prompt, "response": response.removesuffix(form.end)}
                if text is not None:
                    row["observed"] = text.removesuffix(form.end)
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


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
    place = folder / MASKS
    arrays = _read_masks(place) if place.exists() else _read_classes(folder)
    train, validation = arrays["train", "observed"], arrays["validation", "observed"]
    replaced = _read_replaced(folder / "images.npz")
    found = observed_hash(train, validation, dataset_hash, replaced)
    rows = rows_hash(*(arrays[name, column] for name in ("train", "validation") for column in ("index", "clean")))
    if found != stated or rows != manifest.get("rows_sha256"):
        raise UserError(
            f"{folder}: the labels do not match their manifest (SHA-256 {found[:12]}… is not {stated[:12]}…); "
            "a byte has changed since it was made. Make or copy the label set again"
        )
    events = {name: arrays[name, "events"] for name in ("train", "validation") if (name, "events") in arrays}
    if (rows_hash(events["train"], events["validation"]) if events else None) != manifest.get("events_sha256"):
        raise UserError(
            f"{folder}: what is told of wrong characters does not match the manifest; make the label set again"
        )
    measured = _measured(arrays["train", "clean"], train, arrays["validation", "clean"], validation, classes)
    wrong = [key for key, value in measured.items() if manifest.get(key) != value]
    if wrong:
        raise UserError(
            f"{manifest_file}: {', '.join(wrong)} does not follow from the labels beside it; make the label set again"
        )
    return LabelSet(train, validation, manifest, replaced, events)


def _read_classes(folder: Path) -> dict[tuple[str, str], Targets]:
    """Columns of the table of labels, by split and name."""
    tables = [folder / name for name in ("labels.parquet", "labels.csv") if (folder / name).exists()]
    if not tables:
        raise UserError(f"{folder}: labels.parquet or labels.csv is missing beside the manifest")
    table = read_table(tables[0])
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise UserError(f"{tables[0]}: column {', '.join(missing)} is missing; expected {', '.join(COLUMNS)}")
    parts = {name: table[table["split"] == name] for name in ("train", "validation")}
    try:
        return {
            (name, column): part[column].to_numpy(dtype=np.int64)
            for name, part in parts.items()
            for column in COLUMNS[1:]
        }
    except (ValueError, TypeError, OverflowError):
        raise UserError(
            f"{tables[0]}: index, clean and observed must be whole numbers; make the label set again"
        ) from None


def _read_masks(path: Path) -> dict[tuple[str, str], Targets]:
    """The same of masks."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {
                (name, column): archive[f"{name}_{column}"]
                for name in ("train", "validation")
                for column in (*COLUMNS[1:], "events")
                if column != "events" or f"{name}_events" in archive
            }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: the masks are damaged ({error}); make or copy the label set again") from None


def _read_replaced(path: Path) -> dict[str, Replaced]:
    if not path.exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = [name for name in ("train", "validation") if f"{name}_rows" in archive]
            return {name: Replaced(*(archive[f"{name}_{part}"] for part in REPLACED)) for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path}: the replaced images are damaged ({error}); make or copy the label set again"
        ) from None
