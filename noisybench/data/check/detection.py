"""Find the dataset that reads a folder or a file."""

from __future__ import annotations

import itertools
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from noisybench.config.registry import get_entry, list_entries
from noisybench.data.images.decoding import IMAGE_SUFFIXES
from noisybench.data.labels.numeric_table import has_numeric_columns
from noisybench.data.labels.text_table import text_columns
from noisybench.data.parquet.features import has_features
from noisybench.data.traces.schemas import has_trace_columns
from noisybench.errors import UserError
from noisybench.utils.places import check_file, expand_user, shown

PATH_PARAMETERS = ("root", "path", "table", "annotations", "train")
"""Parameters that hold the path of a dataset, the most usual first."""

MAX_ENTRIES = 2000
"""Largest number of files and folders that are looked at; the first ones show the layout."""

MAX_DEPTH = 4
"""Largest depth of the folders that are looked at."""

END_BYTES = 65536
"""Number of bytes at each end of a JSON file that are looked at."""


def dataset_of(path: Path, name: str | None = None) -> dict[str, Any]:
    """Return the name and the parameters of the dataset that reads a folder or a file.

    Args:
        path: the folder or file.
        name: name of the dataset, if the user says it.

    Raises:
        UserError: there is nothing, or no dataset reads it; the message lists the layouts that are found.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     (Path(folder) / "images").mkdir(); (Path(folder) / "masks").mkdir()
        ...     dataset_of(Path(folder))["name"]
        'image_mask_folder'
    """
    place = expand_user(path)
    # Opening a named pipe would wait for its writer.
    if place.exists() and not place.is_dir():
        check_file(place)
    if not place.exists():
        raise UserError(f"{shown(path)}: there is no such file, folder or recipe (`noisybench list recipes`)")
    if name is None:
        name = next((kind for kind, fits in KINDS if kind in list_entries("datasets") and fits(place)), None)
    if name is None:
        raise UserError(
            f"{shown(path)}: no dataset reads this {'folder' if place.is_dir() else 'file'}; expected one folder of images for "
            "each class, the folders images and masks, .npz, .parquet, .jsonl or .nii.gz files, a table of texts and labels, "
            "or one beside images. Name the dataset with dataset=NAME (`noisybench list datasets`)"
        )
    schema = get_entry("datasets", name, "dataset").schema
    parameter = next((each for each in PATH_PARAMETERS if each in schema.fields), None)
    if parameter is None:
        raise UserError(f"dataset: {name} reads no files of a path; leave out {shown(path)}, or choose another dataset")
    # Of several parameters, a single file is the one for files, such as the training file beside a folder of shards.
    if place.is_file() and parameter == "root":
        parameter = next((each for each in PATH_PARAMETERS[1:] if each in schema.fields), parameter)
    is_inside = place.is_file() and parameter == "root"
    return {"name": name, parameter: str(path.parent if is_inside else path)}


def _entries(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Yield the entries below a folder, level by level, and whether each is a folder; hidden ones do not count."""
    level = [folder]
    for _ in range(MAX_DEPTH):
        following: list[Path] = []
        for parent in level:
            try:
                with os.scandir(parent) as listed:
                    found = [(entry.name, entry.is_dir()) for entry in listed]
            except OSError:  # reported by the reader of the dataset
                continue
            # Images last, because there may be more of them than are looked at.
            for entry_name, is_folder in sorted(found, key=lambda each: (_is_image(each[0]), each)):
                if entry_name.startswith((".", "__")):
                    continue
                yield parent / entry_name, is_folder
                if is_folder:
                    following.append(parent / entry_name)
        level = following


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _looked_at(folder: Path) -> list[tuple[Path, bool]]:
    return list(itertools.islice(_entries(folder), MAX_ENTRIES)) if folder.is_dir() else []


def _has_folders(*names: str) -> Callable[[Path], bool]:
    """Return a test for folders that have all of some folders beside each other, at any of the first levels."""

    def fits(folder: Path) -> bool:
        parents: dict[Path, set[str]] = {}
        for entry, is_folder in _looked_at(folder):
            if is_folder:
                parents.setdefault(entry.parent, set()).add(entry.name.lower())
        return any(set(names) <= found for found in parents.values())

    return fits


def _has_files(*suffixes: str) -> Callable[[Path], bool]:
    """Return a test for files of some suffixes, and for folders that contain one."""

    def fits(path: Path) -> bool:
        files = [path] if path.is_file() else [entry for entry, is_folder in _looked_at(path) if not is_folder]
        return any(file.name.lower().endswith(suffixes) for file in files)

    return fits


def _has_json_with(*keys: str, suffixes: tuple[str, ...] = (".json",)) -> Callable[[Path], bool]:
    """Return a test for JSON files that have some keys near their ends, and for folders that contain one."""

    def fits(path: Path) -> bool:
        files = [path] if path.is_file() else [entry for entry, is_folder in _looked_at(path) if not is_folder]
        return any(
            all(f'"{key}"'.encode() in _ends(file) for key in keys)
            for file in [file for file in files if file.suffix.lower() in suffixes][:3]
        )

    return fits


def _ends(file: Path) -> bytes:
    """Return the first and the last bytes of a file; the arrays between them may be long."""
    try:
        with file.open("rb") as opened:
            head = opened.read(END_BYTES)
            opened.seek(max(0, file.stat().st_size - END_BYTES))
            return head + opened.read(END_BYTES)
    except OSError:  # reported by the reader of the dataset
        return b""


def _has_table(path: Path) -> bool:
    """Return True for a table, and for a folder with a table at its top and no folders of classes beside it."""
    tables = (".csv", ".tsv")
    if path.is_file():
        return path.suffix.lower() in tables
    top = [(entry, is_folder) for entry, is_folder in _looked_at(path) if entry.parent == path]
    return any(not is_folder and entry.suffix.lower() in tables for entry, is_folder in top)


def _has_image_folders(path: Path) -> bool:
    return any(
        not is_folder and entry.parent != path and entry.suffix.lower() in IMAGE_SUFFIXES
        for entry, is_folder in _looked_at(path)
    )


def _has_array(name: str) -> Callable[[Path], bool]:
    """Return a test for archives and folders with an array of a name."""

    def fits(path: Path) -> bool:
        if path.is_dir():
            return (path / f"{name}.npy").is_file()
        try:
            with zipfile.ZipFile(path) as archive:
                return f"{name}.npy" in archive.namelist()
        except (OSError, ValueError, zipfile.BadZipFile):  # other files, and damaged archives
            return False

    return fits


def _is_file(*suffixes: str) -> Callable[[Path], bool]:
    return lambda path: path.is_file() and path.name.lower().endswith(suffixes)


STEP_KEYS = (
    ("problem", "steps", "label"),
    ("modified_process", "error_steps"),
    ("question", "label", "chosen_completion"),
)
"""Fields of ProcessBench, PRMBench and PRM800K."""

KINDS: tuple[tuple[str, Callable[[Path], bool]], ...] = (
    ("features", _has_array("train_x")),
    ("npz", _is_file(".npz")),
    ("features", lambda path: path.suffix.lower() == ".parquet" and has_features(path)),
    ("trace_file", lambda path: path.suffix.lower() == ".parquet" and has_trace_columns(path)),
    ("text_table", lambda path: path.is_file() and text_columns(path)),
    ("features", lambda path: path.is_file() and has_numeric_columns(path)),
    ("parquet", _is_file(".parquet")),
    *(("step_file", _has_json_with(*keys, suffixes=(".json", ".jsonl"))) for keys in STEP_KEYS),
    ("trace_file", _is_file(".jsonl")),
    ("cityscapes", _has_folders("leftimg8bit")),
    ("camvid", _has_folders("701_stillsraw_full")),
    ("camvid", _has_folders("train", "trainannot")),
    ("coco", _has_json_with("images", "categories")),
    ("labelme", _has_json_with("shapes", "imagePath")),
    ("trace_file", _is_file(".json")),
    ("yolo", lambda path: _has_folders("images", "labels")(path) and _has_files(".txt")(path)),
    ("image_mask_folder", _has_folders("images", "masks")),
    ("nifti_slices", _has_files(".nii", ".nii.gz")),
    ("parquet", _has_files(".parquet")),
    ("npz", _has_files(".npy")),
    ("image_table", _has_table),
    ("image_folder", _has_image_folders),
    ("trace_file", _has_files(".jsonl")),
)
"""Datasets of layouts, the most specific first; those that are not installed are passed over."""
