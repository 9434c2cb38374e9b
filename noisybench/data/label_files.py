"""Label files."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from noisybench.data.dataset import Dataset
from noisybench.data.targets import Targets
from noisybench.errors import UserError

if TYPE_CHECKING:
    import pandas
from noisybench.data.label_set import LabelSet, ReplacedImages, _measured, index_hash, observed_hash

COLUMNS = ["split", "index", "clean", "observed"]

MASKS = "masks.npz"

TRACES = "traces.jsonl"

REPLACED = ("rows", "images")


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
    applied = labels.apply_to(dataset)
    parts = [("train", applied.train, labels.train), ("validation", applied.validation, labels.validation)]
    if labels.train.ndim > 1:
        columns: dict[str, Any] = {
            f"{name}_{column}": values
            for name, split, observed in parts
            for column, values in zip(COLUMNS[1:], (split.index, split.targets, observed), strict=True)
        } | {f"{name}_events": values for name, values in labels.error_spans.items()}
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
    rows = index_hash(*(arrays[name, column] for name in ("train", "validation") for column in ("index", "clean")))
    if found != stated or rows != manifest.get("rows_sha256"):
        raise UserError(
            f"{folder}: the labels do not match their manifest (SHA-256 {found[:12]}… is not {stated[:12]}…); "
            "a byte has changed since it was made. Make or copy the label set again"
        )
    events = {name: arrays[name, "events"] for name in ("train", "validation") if (name, "events") in arrays}
    if (index_hash(events["train"], events["validation"]) if events else None) != manifest.get("events_sha256"):
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


def _read_replaced(path: Path) -> dict[str, ReplacedImages]:
    if not path.exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = [name for name in ("train", "validation") if f"{name}_rows" in archive]
            return {name: ReplacedImages(*(archive[f"{name}_{part}"] for part in REPLACED)) for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path}: the replaced images are damaged ({error}); make or copy the label set again"
        ) from None
