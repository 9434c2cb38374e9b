"""Label sets on disk.

A folder holds `manifest.json` and the labels: classes as a table with the columns split, index, clean and observed
(`labels.parquet` or `labels.csv`), masks and tokens as arrays of these names (`masks.npz`). Replaced images are in
`images.npz`, and traces are repeated as text in `traces.jsonl`. Votes of several annotators are in `votes.parquet`, and
given and verified labels in `verified.parquet`. The
observed label -2 means that an example has none.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from noisybench.data.arrays import read_archive
from noisybench.data.dataset import Dataset, Split
from noisybench.data.label_sets.label_set import (
    SPLITS,
    LabelSet,
    ReplacedImages,
    error_spans_hash,
    label_set_of,
    label_statistics,
    observed_hash,
    rows_hash,
    with_clean_targets,
)
from noisybench.data.label_sets.manifest import DIGEST, MANIFEST, TRACES_DIGEST, read_manifest, write_manifest
from noisybench.data.labels.verification_files import read_verification, write_verification
from noisybench.data.labels.vote_files import read_votes, write_votes
from noisybench.data.targets import IGNORED, UNKNOWN_TARGET, Targets
from noisybench.data.traces.formats import token_dtype
from noisybench.errors import UserError
from noisybench.utils.files import first_line
from noisybench.utils.places import check_file, check_output_folder, shown

if TYPE_CHECKING:
    import pandas

COLUMNS = ("index", "clean", "observed")
"""Columns of a label table, beside `split`."""

MASKS, TRACES, IMAGES, VOTES = "masks.npz", "traces.jsonl", "images.npz", "votes.parquet"
VERIFIED = "verified.parquet"
TABLES = ("labels.parquet", "labels.csv")

STATISTICS = (
    "actual_noise_rate", "actual_noise_rate_validation", "transition_counts", "label_status", "ood_counts", "masks",
    "unlabeled",
)  # fmt: skip
"""Entries of the manifest that follow from the labels; see `label_statistics`."""

REPLACED = ("rows", "images")
"""Fields of `ReplacedImages`, stored as arrays."""

Columns = dict[tuple[str, str], Targets]
"""Stored arrays by split and column."""


def save(labels: LabelSet, dataset: Dataset, folder: Path, format: Literal["parquet", "csv"] = "parquet") -> Path:
    """Write a label set to a folder and return the folder.

    Args:
        labels: the label set.
        dataset: the dataset it belongs to.
        folder: where to write; created if missing.
        format: format of the table of classes; masks and traces are always stored as arrays.

    Raises:
        UserError: the folder contains a different label set.

    Examples:
        >>> import tempfile
        >>> from noisybench.data.label_sets.label_set import make_label_set
        >>> from noisybench.data.label_sets.manifest import noise_entry
        >>> split = Split(np.zeros((2, 1, 8, 8), np.uint8), targets=np.array([0, 1]), index=np.arange(2))
        >>> dataset = Dataset("toy", split, split, split, ("cat", "dog"), source_size=2)
        >>> noise = noise_entry("by hand", "labels of the author")
        >>> labels = make_label_set(dataset, np.array([1, 1]), np.array([0, 1]), noise, None)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     load(save(labels, dataset, Path(folder), format="csv")).hash == labels.hash
        True
    """
    manifest_file = folder / MANIFEST
    if os.path.lexists(manifest_file) and read_manifest(folder)["sha256"] != labels.hash:
        raise UserError(f"{shown(folder)} already contains a different label set; choose another folder")
    check_output_folder(folder)
    # The clean targets of replaced images are `OOD_TARGET`, and those of verified examples their verified class.
    applied = with_clean_targets(dataset, labels.replaced, labels.verification)
    splits = {name: (getattr(applied, name), labels.observed(name)) for name in SPLITS}
    columns: Columns = {
        (name, column): values
        for name, (split, observed) in splits.items()
        for column, values in zip(COLUMNS, (split.index, split.targets, observed), strict=True)
    }
    if labels.target_kind.dense:
        columns |= {(name, "error_spans"): spans for name, spans in labels.error_spans.items()}
        arrays: dict[str, Any] = {f"{name}_{column}": values for (name, column), values in columns.items()}
        np.savez_compressed(folder / MASKS, **arrays)
    else:
        _write_table(columns, folder / f"labels.{format}")
    manifest = dict(labels.manifest)
    if dataset.trace_format is not None:
        _write_traces(labels, dataset, folder / TRACES)
        manifest[TRACES_DIGEST] = _file_digest(folder / TRACES)
    if labels.replaced:
        images: dict[str, Any] = {
            f"{name}_{part}": getattr(replaced, part) for name, replaced in labels.replaced.items() for part in REPLACED
        }
        np.savez_compressed(folder / IMAGES, **images)
    if labels.votes is not None:
        write_votes(labels.votes, folder / VOTES)
    if labels.verification is not None:
        write_verification(labels.verification, folder / VERIFIED)
    # Last: a folder without a manifest is not a label set, so a crash before this line leaves nothing that can be
    # loaded.
    write_manifest(folder, manifest)
    return folder


def load(folder: Path) -> LabelSet:
    """Read a label set and check it against its manifest.

    Everything that follows from the labels is computed again. The other entries of the manifest, such as the nominal
    rate, are bound to it by a digest only: `label_provenance` compares them with the noise model and the dataset.

    Raises:
        UserError: files are missing or damaged, or the labels do not match the manifest.

    Examples:
        See `save`.
    """
    manifest = read_manifest(folder)
    columns = _read_arrays(folder / MASKS) if (folder / MASKS).exists() else _read_classes(folder)
    train, validation = columns["train", "observed"], columns["validation", "observed"]
    clean = (columns["train", "clean"], columns["validation", "clean"])
    replaced = _read_replaced(folder / IMAGES)
    _check_arrays(folder, columns, manifest["dataset"])
    error_spans = {name: columns[name, "error_spans"] for name in SPLITS if (name, "error_spans") in columns}
    verification = (
        read_verification(folder / VERIFIED, len(manifest["dataset"]["classes"]))
        if (folder / VERIFIED).exists()
        else None
    )
    sha256 = observed_hash(train, validation, manifest["dataset"]["sha256"], replaced, verification)
    rows = rows_hash((columns[name, "index"], columns[name, "clean"]) for name in SPLITS)
    if sha256 != manifest["sha256"] or rows != manifest.get("rows_sha256"):
        raise UserError(
            f"{folder}: the labels do not match their manifest (SHA-256 {sha256[:12]}… instead of "
            f"{manifest['sha256'][:12]}…); the files have changed since they were written. Create or copy the label set "
            "again"
        )
    if (error_spans_hash(error_spans) if error_spans else None) != manifest.get("error_spans_sha256"):
        raise UserError(f"{folder}: the error spans do not match the manifest; create or copy the label set again")
    if (_file_digest(folder / TRACES) if (folder / TRACES).exists() else None) != manifest.get(TRACES_DIGEST):
        raise UserError(f"{folder / TRACES}: does not match the manifest; create or copy the label set again")
    votes = read_votes(folder / VOTES, len(manifest["dataset"]["classes"])) if (folder / VOTES).exists() else None
    if (None if votes is None else votes.hash) != manifest.get("votes_sha256"):
        raise UserError(f"{folder / VOTES}: does not match the manifest; create or copy the label set again")
    if (None if verification is None else verification.statistics) != manifest.get("verification"):
        raise UserError(f"{folder / VERIFIED}: does not match the manifest; create or copy the label set again")
    # The hashes do not cover the other entries of the manifest, so those are computed again and compared.
    has_background = manifest["dataset"].get("background") is not False
    statistics = label_statistics(clean, (train, validation), len(manifest["dataset"]["classes"]), has_background)
    # Entries that these labels do not have, such as the IoU of masks, are not allowed either.
    differing = [key for key in STATISTICS if manifest.get(key) != statistics.get(key)]
    if differing:
        raise UserError(
            f"{folder / MANIFEST}: {', '.join(differing)} does not follow from the labels; create or copy the label set "
            "again"
        )
    manifest = {name: entry for name, entry in manifest.items() if name not in (DIGEST, TRACES_DIGEST)}
    return label_set_of(train, validation, manifest, replaced, error_spans, votes, verification=verification)


def stored_files(folder: Path) -> dict[str, Path]:
    """Return the files of a label set that `load` reads, by their names; the manifest even if it is missing."""
    names = (MANIFEST, MASKS, IMAGES, VOTES, VERIFIED, *TABLES)
    return {name: folder / name for name in names if name == MANIFEST or (folder / name).exists()}


def read_stored_table(path: Path) -> pandas.DataFrame:
    """Read the table of a label set (`labels.csv` or `labels.parquet`).

    Raises:
        UserError: the file does not exist or is damaged.
    """
    import pandas

    check_file(path)
    try:
        return pandas.read_parquet(path) if path.suffix == ".parquet" else pandas.read_csv(path, encoding="utf-8")
    except Exception as error:  # parsers of tables raise anything on damaged files
        raise UserError(f"{shown(path)}: cannot be read ({first_line(error)}); export it again") from None


def _write_table(columns: Columns, path: Path) -> None:
    import pandas

    frame = pandas.concat(
        pandas.DataFrame({"split": name, **{column: columns[name, column] for column in COLUMNS}}) for name in SPLITS
    )
    if path.suffix == ".csv":
        # A fixed line end, because the default of pandas depends on the operating system.
        frame.to_csv(path, index=False, lineterminator="\n")
    else:
        frame.to_parquet(path, index=False)


def _write_traces(labels: LabelSet, dataset: Dataset, path: Path) -> None:
    """Write all traces as text, one JSON object per line."""
    form = dataset.trace_format
    assert form is not None
    splits: dict[str, tuple[Split, Targets | None]] = {
        "train": (dataset.train, labels.train),
        "validation": (dataset.validation, labels.validation),
        "test": (dataset.test, None),
    }
    with path.open("w", encoding="utf-8") as file:
        for name, (split, observed) in splits.items():
            # The last axis of the inputs holds the prompt; `[:]` reads it into memory first.
            prompts, responses = form.decode(np.asarray(split.inputs[:][:, 0, 0])), form.decode(split.targets)
            texts = [None] * len(split) if observed is None else form.decode(observed)
            fields: Sequence[Mapping[str, Any]] = split.fields or [{}] * len(split)
            for prompt, response, text, others in zip(prompts, responses, texts, fields, strict=True):
                row = {"split": name, "prompt": prompt, "response": response.removesuffix(form.end)}
                if text is not None:
                    row["observed"] = text.removesuffix(form.end)
                # Fields of the source never replace those above, which a reader of this file uses.
                row |= {f"original_{field}" if field in row else field: value for field, value in others.items()}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _check_arrays(folder: Path, columns: Columns, dataset: Mapping[str, Any]) -> None:
    """Check types, shapes and values of the stored arrays before anything is computed from them.

    Raises:
        UserError: they are not the labels of ``dataset``.
    """
    num_classes = len(dataset["classes"])
    for name in SPLITS:
        index, clean, observed = (columns[name, column] for column in COLUMNS)
        spans = columns.get((name, "error_spans"), observed)
        is_dense = (folder / MASKS).exists()
        # The size of a split without examples shows no number of dimensions.
        dtype, dimensions = (_dense_dtype(observed, num_classes), (2, 3)) if is_dense else (np.dtype(np.int64), (1,))
        span_dtype = np.dtype(np.uint8) if (name, "error_spans") in columns else dtype
        dtypes = [values.dtype for values in (clean, observed, spans)]
        no_label, lowest = (IGNORED, 0) if is_dense else (UNKNOWN_TARGET, UNKNOWN_TARGET)
        problem = None
        if index.dtype != np.int64 or index.ndim != 1 or (index < 0).any() or len(np.unique(index)) < len(index):
            problem = "index must be distinct integers from 0"
        elif len(index) != dataset["sizes"][name]:
            problem = f"has {len(index)} labels, but the manifest has {dataset['sizes'][name]}"
        elif not clean.shape == observed.shape == spans.shape or len(clean) != len(index):
            problem = "index, clean and observed labels have different sizes"
        elif dtypes != [dtype, dtype, span_dtype] or observed.ndim not in dimensions:
            problem = f"labels are {observed.dtype} of shape {observed.shape}, which no label set has"
        elif _out_of_range(observed, 0, num_classes, no_label) or _out_of_range(clean, lowest, num_classes, no_label):
            problem = f"has labels outside of 0 to {num_classes - 1}"
        if problem:
            raise UserError(f"{shown(folder)}: the {name} split {problem}; create or copy the label set again")


def _dense_dtype(labels: Targets, num_classes: int) -> np.dtype[Any]:
    """Return the type that masks, or tokens of a vocabulary of this size, must have."""
    return np.dtype(token_dtype(num_classes) if labels.ndim == 2 else np.uint8)


def _out_of_range(labels: Targets, lowest: int, num_classes: int, no_label: int) -> bool:
    is_label = labels != no_label
    return bool(((labels < lowest) | (labels >= num_classes))[is_label].any())


def _file_digest(path: Path) -> str:
    with check_file(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_classes(folder: Path) -> Columns:
    """Read the table of classes."""
    path = next((folder / name for name in TABLES if (folder / name).exists()), None)
    if path is None:
        raise UserError(f"{folder}: {' or '.join(TABLES)} is missing; create or copy the label set again")
    table = read_stored_table(path)
    missing = [column for column in ("split", *COLUMNS) if column not in table]
    if missing:
        raise UserError(f"{path}: missing column {', '.join(missing)}; expected split, {', '.join(COLUMNS)}")
    unknown = table["split"][~table["split"].isin(SPLITS)].tolist()
    if unknown:
        raise UserError(f"{shown(path)}: unknown split `{shown(str(unknown[0]))}`; create or copy the label set again")
    # By type, because the conversion of a fraction to an integer would round it to another label.
    if not all(isinstance(table[column].dtype, np.dtype) and table[column].dtype.kind == "i" for column in COLUMNS):
        raise UserError(f"{shown(path)}: {', '.join(COLUMNS)} must be integers; create or copy the label set again")
    return {
        # Copied, because columns of pandas may be read-only, which PyTorch does not support.
        (name, column): np.array(table[column][table["split"] == name], dtype=np.int64)
        for name in SPLITS
        for column in COLUMNS
    }


def _read_arrays(path: Path) -> Columns:
    """Read the arrays of masks or tokens."""
    arrays = read_archive(path)
    try:
        columns = {(name, column): arrays[f"{name}_{column}"] for name in SPLITS for column in COLUMNS}
    except KeyError as error:
        raise UserError(f"{shown(path)}: {error} is missing; create or copy the label set again") from None
    spans = {(name, "error_spans"): arrays[key] for name in SPLITS if (key := f"{name}_error_spans") in arrays}
    return columns | spans


def _read_replaced(path: Path) -> dict[str, ReplacedImages]:
    if not path.exists():
        return {}
    arrays = read_archive(path)
    names = [name for name in SPLITS if f"{name}_rows" in arrays]
    try:
        return {name: ReplacedImages(*(arrays[f"{name}_{part}"] for part in REPLACED)) for name in names}
    except KeyError as error:
        raise UserError(f"{shown(path)}: {error} is missing; create or copy the label set again") from None
