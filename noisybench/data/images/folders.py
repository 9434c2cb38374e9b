"""Layout of folders of images: folders of splits, class folders in them, and the images of each class."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from noisybench.data.images.decoding import IMAGE_SUFFIXES
from noisybench.data.images.unread_files import (
    data_files_below,
    data_files_in,
    relative_name,
    subfolders,
    unread_files,
    visible_entries,
)
from noisybench.data.labels.class_names import normalize_name, sort_names
from noisybench.data.notes import ReadingNote, reading_note
from noisybench.data.splits.names import SPELLINGS, NamedSplits, Role, find_splits
from noisybench.errors import UserError, nearest
from noisybench.utils.text import printable

_NUMBERED = re.compile(rf"({'|'.join([*itertools.chain(*SPELLINGS.values()), 'fold', 'split', 'part'])})[ _.-]?\d+")

MAX_LISTED = 10
"""Largest number of folders that a message lists."""


@dataclass(frozen=True)
class SplitFolders:
    """Folders of the splits below a root.

    Attributes:
        folders: folder of each split; without folders of splits, ``train`` is the root itself.
        notes: what lies beside them and is not read, and a split that is used as another.
    """

    folders: dict[Role, Path]
    notes: tuple[ReadingNote, ...] = ()


@dataclass(frozen=True)
class ClassFolders:
    """Images of one split by class.

    Attributes:
        folder: folder of the split.
        files: images of each class folder, sorted, by the name of the class in the order of classes; may be empty.
        unread: files that look like data and are no images of a class.
        nested: images in folders below the class folders, which count as their class.
    """

    folder: Path
    files: dict[str, list[Path]]
    unread: list[Path] = field(default_factory=list)
    nested: list[Path] = field(default_factory=list)


def is_image(path: Path) -> bool:
    """Return True if the suffix of a file is that of an image."""
    return path.name.lower().endswith(IMAGE_SUFFIXES)


def find_split_folders(root: Path, ignored: Collection[str] = ()) -> SplitFolders:
    """Find the folders of the splits in a root by their names.

    The validation split is used as the test split if there is no other.

    Args:
        root: the folder.
        ignored: names of folders that do not count.

    Raises:
        UserError: a split has two folders, the training split has none, or folders could be splits as well as classes.
    """
    folders = subfolders(root, ignored)
    found = find_splits([path.name for path in folders], f"dataset.root: {printable(str(root))}")
    if not found:
        if len(folders) == 1 and find_splits([path.name for path in subfolders(folders[0], ignored)], ""):
            raise UserError(f"dataset.root: the splits are in {folders[0]}; set dataset.root={folders[0]}")
        _check_numbered_splits(root, folders, ignored)
        return SplitFolders({"train": root})
    splits = {role: _without_repetition(root / _only(root, role, names)) for role, names in found.names.items()}
    others = [root / name for name in found.others]
    _check_split_contents(root, splits, others, ignored)
    unread = [path for path in others if data_files_below(path)]
    notes = reading_note("unread_folders", "Folders beside the splits were not read", (path.name for path in unread))
    notes += unread_files(data_files_in(root), root)
    if "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
        text = "The validation split is the test split, because there is no other"
        notes += reading_note("validation_as_test", text, [splits["test"].name])
    return SplitFolders(splits, notes)


def _check_numbered_splits(root: Path, folders: Sequence[Path], ignored: Collection[str]) -> None:
    """Refuse folders such as `train1` and `test1`, or `fold1` and `fold2`, that contain the same class folders."""
    numbered = [path for path in folders if _NUMBERED.fullmatch(path.name.lower())]
    classes = [{inner.name for inner in subfolders(path, ignored)} for path in numbered]
    if len(numbered) > 1 and classes[0] and set.intersection(*classes):
        raise UserError(
            f"dataset.root: the folders {_listed(numbered)} in {root} contain the same folders, so they could be splits; "
            "rename them to train, validation and test, or set dataset.split_folders=false if each is a class"
        )


def _only(root: Path, role: Role, names: Sequence[str]) -> str:
    """Return the only folder of a split."""
    if len(names) > 1:
        listed = ", ".join(map(printable, names[:MAX_LISTED]))
        raise UserError(
            f"dataset.root: {root} has {len(names)} folders of the {role} split ({listed}); join them in one"
        )
    return names[0]


def _without_repetition(folder: Path) -> Path:
    """Return the folder in a folder that contains nothing else and has the same name, as some archives unpack it."""
    inner = visible_entries(folder)
    return inner[0] if len(inner) == 1 and inner[0].name == folder.name and inner[0].is_dir() else folder


def _check_split_contents(
    root: Path, splits: dict[Role, Path], others: Sequence[Path], ignored: Collection[str]
) -> None:
    """Check that folders with the names of splits contain class folders, and that others are no further splits."""
    flat = [path for path in splits.values() if not subfolders(path, ignored)]
    classes = [path for path in others if any(map(is_image, data_files_in(path)))]
    if flat and classes:
        raise UserError(
            f"dataset.root: the folders {_listed(flat + classes)} in {root} could be classes or splits; set "
            "dataset.split_folders=false if all of them are classes, or dataset.ignored_folders to those that are not read"
        )
    for path in flat:
        contents = "images" if any(map(is_image, data_files_in(path))) else "nothing"
        raise UserError(
            f"dataset.root: {path} contains {contents}, but no class folders; expected {path.name}/CLASS/IMAGE. Set "
            f"dataset.ignored_folders=[{path.name}] to leave it out, or dataset.split_folders=false if it is a class"
        )
    if "train" not in splits:
        raise UserError(
            f"dataset.root: {root} has {_listed(list(splits.values()))}, but no folder of training images; add a folder "
            "`train`, or set dataset.root to a folder of class folders"
        )
    train_classes = {path.name for path in subfolders(splits["train"], ignored)}
    for path in others:
        if train_classes & {inner.name for inner in subfolders(path, ignored)}:
            raise UserError(
                f"dataset.root: {path} contains class folders like {splits['train'].name}, but its name is none of a split; "
                f"rename it to train, validation or test, or set dataset.ignored_folders=[{path.name}] to leave it out"
            )


def _listed(paths: Sequence[Path]) -> str:
    """Return the names of some folders."""
    names = sorted(f"`{printable(path.name)}`" for path in paths)
    return ", ".join(names[:MAX_LISTED]) + (" …" if len(names) > MAX_LISTED else "")


def find_class_folders(folder: Path, ignored: Collection[str] = ()) -> ClassFolders:
    """Find the images of the class folders in the folder of a split, with those in folders below them.

    Args:
        folder: folder of the split.
        ignored: names of folders that do not count.

    Raises:
        UserError: two folders have the same name in the normal form NFC, or class folders contain splits.
    """
    classes: dict[str, Path] = {}
    for path in subfolders(folder, ignored):
        other = classes.setdefault(normalize_name(path.name), path)
        if other != path:
            raise UserError(
                f"dataset.root: two folders in {folder} have the name `{printable(normalize_name(path.name))}`, encoded "
                "differently (Unicode NFC and NFD, or blanks around it); join them in one"
            )
    files: dict[str, list[Path]] = {}
    unread, nested = data_files_in(folder), list[Path]()
    for name in sort_names(list(classes)):
        path = classes[name]
        listed = data_files_below(path)
        files[name] = [file for file in listed if is_image(file)]
        unread += [file for file in listed if not is_image(file)]
        nested += [file for file in files[name] if file.parent != path]
        if nested and len(_splits_in(path).names) > 1:
            raise UserError(
                f"dataset.root: the class folder {path} contains the splits {_listed(subfolders(path))}; expected the splits "
                "above the classes, such as train/CLASS/IMAGE"
            )
    return ClassFolders(folder, files, unread, nested)


def _splits_in(folder: Path) -> NamedSplits:
    """Return the splits among the names of the folders in a class folder."""
    try:
        return find_splits([path.name for path in subfolders(folder)], "")
    except UserError:  # two spellings of one split are no splits here
        return NamedSplits()


def class_folder_notes(splits: Sequence[ClassFolders], root: Path) -> tuple[ReadingNote, ...]:
    """Return notes about files that were not read, and images in folders below the class folders."""
    nested = [relative_name(file, root) for split in splits for file in split.nested]
    text = "Images in folders below the class folders count as their class"
    unread = [file for split in splits for file in split.unread]
    return reading_note("nested_folders", text, nested) + unread_files(unread, root)


def check_classes_of_split(train: ClassFolders, split: ClassFolders) -> None:
    """Refuse images in class folders that the training split does not have.

    Raises:
        UserError: with the name of the first.
    """
    unknown = [name for name, files in split.files.items() if files and not train.files.get(name)]
    if unknown:
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        hint = nearest(unknown[0], [name for name, files in train.files.items() if files])
        if hint.startswith("known") and len(unknown) == sum(map(bool, split.files.values())):
            hint += f"; set dataset.ignored_folders=[{split.folder.name}] to leave the folder out"
        raise UserError(
            f"dataset.root: {split.folder} has the class `{printable(unknown[0])}`{more}, which {train.folder} does not have; "
            f"{hint}"
        )
