"""Load datasets by name, recipe or path."""

from __future__ import annotations

import os
from typing import Any

from noisybench.api.paths import read_path
from noisybench.config.published_recipes import load_recipe, recipe_names
from noisybench.config.registry import get_entry, list_entries
from noisybench.data.dataset import Dataset
from noisybench.data.source import DatasetSource
from noisybench.errors import UserError, nearest, show


def load_dataset(name: str | os.PathLike[str], **parameters: Any) -> Dataset:
    """Load a dataset with its splits and class names.

    Args:
        name: name of a dataset (`list_names("datasets")`); path of a folder or file, whose layout decides how it is read;
            or name or YAML file of a recipe. A name counts before a path that is written in the same way: ``"./digits"``
            is the folder.
        parameters: its parameters, which `noisybench describe NAME` lists, such as ``root="photos"``.

    Returns:
        Dataset with the splits `train`, `validation` and `test`; each has `inputs` and integer `targets`, such as
        (N, C, H, W) uint8 images and (N,) int64 classes, and `to_torch` and `to_frame`.

    Raises:
        UserError: there is no such dataset, a parameter is invalid, or the data cannot be read.

    Examples:
        >>> dataset = load_dataset("digits", train_size=100)
        >>> dataset
        digits: 100 train, 135 validation, 449 test; 10 classes; uint8 inputs (1, 8, 8)
        >>> dataset.train.inputs.shape, len(dataset.class_names)
        ((100, 1, 8, 8), 10)
    """
    kind, given = _find(name)
    entry = get_entry("datasets", kind, "dataset")
    complete, problems = entry.schema.validate({**given, **parameters}, "dataset")
    if problems:
        raise UserError(*problems)
    source: DatasetSource = entry.load_class()(**complete)
    return source.load()


def _find(name: str | os.PathLike[str]) -> tuple[str, dict[str, Any]]:
    """Return the dataset that a name or path stands for, and the parameters that follow from it."""
    if not isinstance(name, str | os.PathLike):
        raise UserError(
            f"dataset: must be a name or a path, but got {show(name)}; for arrays, use nb.noise or nb.audit"
        )
    if isinstance(name, str) and name in list_entries("datasets"):
        return name, {}
    path, text = read_path(name, "dataset"), os.fspath(name)
    is_recipe = text in recipe_names() or path.suffix in (".yaml", ".yml")
    if is_recipe:
        value = load_recipe(text).get("dataset")
        fields = {"name": value} if isinstance(value, str) else dict(value or {})
        if "name" not in fields:
            raise UserError(f"dataset: the recipe {text} has no dataset")
        return fields.pop("name"), fields
    # A name that is none should get the nearest one, and not an error about a missing file.
    if not path.exists() and isinstance(name, str) and os.sep not in name and not path.suffix:
        raise UserError(
            f"dataset: unknown dataset {show(name, quotes=False)}, and no such file, folder or recipe; "
            f"{nearest(name, {*list_entries('datasets'), *recipe_names()})} (`noisybench list datasets`)"
        )
    from noisybench.data.check.detection import dataset_of

    fields = dataset_of(path)
    return fields.pop("name"), fields
