"""Training configuration for the folder or file of a user, by what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from noisybench.config.registry import get_entry
from noisybench.config.yaml_files import load_config
from noisybench.data.check.detection import dataset_of
from noisybench.errors import UserError

DEFAULT_IMAGE_SIZE = 64
"""Pixels per side to which images of a folder are resized unless `dataset.size` is given."""

DEFAULT_MASK_SIZE = 128
"""Pixels per side to which images with masks are resized unless `dataset.size` is given."""

SPECIAL_SUFFIXES = (".json", ".nii", ".nii.gz", ".jsonl", ".parquet")
"""Ends of the names of single files that may hold masks, annotations of images beside them, or traces."""

RECIPES: dict[str | None, str] = {None: "audit", "segmentation": "audit_masks", "chain_of_thought": "audit_traces"}
"""Recipe by the task; None for examples with one class each."""

DATASET_OF_SUFFIX = {
    ".parquet": ("parquet", "train"), ".npz": ("npz", "path"), ".csv": ("image_table", "table"), ".tsv": ("image_table", "table"),
    ".jsonl": ("text_table", "path"),
}  # fmt: skip
"""Dataset that reads files with a suffix, and its parameter for the path."""


def user_configuration(path: Path) -> dict[str, Any] | None:
    """Return the recipe that trains on a user's folder or file, with it as the dataset; None if there is neither.

    Args:
        path: folder of images, images with masks, file of labels or features, or file of traces.
    """
    task = _special_task(path)
    if task is None and not (path.is_dir() or path.suffix in DATASET_OF_SUFFIX):
        return None
    raw = load_config("recipes", RECIPES[task])
    raw["dataset"] = {None: _user_dataset, "segmentation": _mask_dataset, "chain_of_thought": dataset_of}[task](path)
    if task is None and raw["dataset"]["name"] in ("features", "text_table"):
        raw |= {"task": "transfer", "budget": {"network": "features"}}
    return raw


def _special_task(path: Path) -> str | None:
    """Return the task of a folder or file of images with segmentation masks, or of traces; None for others."""
    if not (path.is_dir() or (path.is_file() and path.name.lower().endswith(SPECIAL_SUFFIXES))):
        return None
    try:
        name = dataset_of(path)["name"]
    except UserError:  # reported by the reader of images, which knows the layouts of classes
        return None
    tasks = get_entry("datasets", name).load_class().tasks
    return next((task for task in RECIPES if tasks == (task,)), None)


def _mask_dataset(path: Path) -> dict[str, Any]:
    """Return the dataset that reads a user's images with masks."""
    raw = dataset_of(path)
    fields = get_entry("datasets", raw["name"]).schema.fields
    # Letterboxing keeps the shape of objects, and the padding has no label.
    chosen = {"size": DEFAULT_MASK_SIZE, "resize_mode": "letterbox", "validation_fraction": 0.0}
    return raw | {name: value for name, value in chosen.items() if name in fields}


def _user_dataset(path: Path) -> dict[str, Any]:
    """Return the dataset that reads a user's folder or file."""
    # Without a validation split, every label is audited.
    if path.is_dir():
        return {"name": "image_folder", "root": str(path), "size": DEFAULT_IMAGE_SIZE, "validation_fraction": 0.0}
    name, parameter = DATASET_OF_SUFFIX[path.suffix]
    found = dataset_of(path)["name"]
    if found in ("features", "text_table"):
        name, parameter = found, "path"
    size = {"size": DEFAULT_IMAGE_SIZE} if name == "image_table" else {}
    return {"name": name, parameter: str(path), **size, "validation_fraction": 0.0}
