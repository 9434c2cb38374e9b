"""Images and labels in a `.npz` file, or in a folder of `.npy` files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.images.arrays import array_images
from noisybench.data.images.decoding import DecodingRules, intensity_range
from noisybench.data.images.examples import class_images
from noisybench.data.labels.class_names import read_class_names
from noisybench.data.notes import ReadingNote, reading_note
from noisybench.data.splits.names import ROLES, Role, split_role
from noisybench.errors import UserError
from noisybench.tasks.datasets._archives import array_files, read_arrays
from noisybench.tasks.datasets._labels import LabeledSource
from noisybench.utils.file_listing import Source
from noisybench.utils.places import expand_user
from noisybench.utils.seeds import Stream

NAMES = {
    "images": ("x", "image", "images", "data", "imgs"),
    "labels": ("y", "label", "labels", "target", "targets"),
    "groups": ("group", "groups"),
}
"""Words for the content of an array; before or behind them stands the split, as in `x_train` or `train_images`."""

CLASS_NAMES = ("class_names", "classes", "label_names")
"""Names of an array of class names."""


@dataclass(frozen=True)
class _ImageSet:
    """Images of one split, as they are in the archive."""

    images: NDArray[np.uint8]
    groups: NDArray[np.str_] | None


class Npz(LabeledSource):
    """Images and labels in one NumPy archive, or in a folder with a `.npy` file for each array.

    Arrays are named x_train, y_train, x_val, y_val, x_test, y_test, or train_images, train_labels, …, or images, labels;
    validation and test arrays, `groups` and `class_names` are optional. Images have the shape (N, H, W), (N, H, W, C) or
    (N, C, H, W) with 1, 3 or 4 channels, and 8 or 16 bits; other values need `intensity_range`.
    """

    license = License("not applicable", access="own files")
    own_files = True
    path: Path | None = parameter(None, help="The .npz file, or a folder of .npy files")
    channels: Literal["first", "last"] | None = parameter(
        None, help="Position of the color channels, if the shape of the images allows both"
    )
    fourth_channel: Literal["alpha", "drop"] | None = parameter(
        None, help="Meaning of a fourth channel: `alpha` for transparency, or `drop` to use the first three"
    )
    intensity_range: list[float] | None = parameter(
        None,
        help="Values of the arrays that become black and white, such as [0, 1] (default: 8 and 16 bits use their whole range; "
        "an error for others)",
    )
    transparent_color: Literal["white", "black", "gray"] = parameter(
        "white", help="Color on which transparent images are composed"
    )

    def data_files(self) -> Mapping[str, Source]:
        """Return the archive, or the arrays of the folder."""
        return {} if self.path is None else {"path": array_files(self.path)}

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read the arrays; pickled objects are rejected."""
        if self.path is None:
            raise UserError("dataset.path: set the .npz file, e.g. dataset.path=images.npz")
        path = expand_user(self.path)
        arrays = read_arrays(path)
        named, class_names, unread = _sort_arrays(arrays, f"dataset.path: {path}")
        notes = list(reading_note("unread_arrays", f"{path}: arrays were not read", unread))
        if "test" not in named and "validation" in named:
            named["test"] = named.pop("validation")
            text = "The validation split is the test split, because there is no other"
            notes.append(ReadingNote("validation_as_test", text, len(arrays[named["test"]["labels"]])))
        columns = {
            role: self.label_column(arrays[names["labels"]], f"dataset.path: {path}: {names['labels']}")
            for role, names in named.items()
        }
        sets = {}
        for role, names in named.items():
            sets[role], converted = self._images(arrays, names, f"dataset.path: {path}", len(columns[role].codes))
            notes += converted
        declared = class_names and read_class_names(arrays[class_names], f"dataset.path: {path}: {class_names}")
        labels = self.match_labels(columns, declared or None)
        train = _split([role for role in sets if role != "test"], sets, labels.targets, (*notes, *labels.notes))
        test = _split(["test"], sets, labels.targets, ()) if "test" in sets else None
        return train, test, labels.class_names

    def _images(
        self, arrays: Mapping[str, NDArray[Any]], names: Mapping[str, str], location: str, num_labels: int
    ) -> tuple[_ImageSet, tuple[ReadingNote, ...]]:
        """Return the images and groups of one split, and their conversions."""
        array, groups = arrays[names["images"]], arrays[names["groups"]] if "groups" in names else None
        rules = DecodingRules(intensity_range(self.intensity_range), self.transparent_color)
        where = f"{location}: {names['images']}"
        images, notes = array_images(array, where, rules, self.channels, self.fourth_channel)
        if len(images) != num_labels:
            raise UserError(
                f"{location}: {names['images']} has {len(images)} entries, but {names['labels']} {num_labels}; each image "
                "needs one label"
            )
        if groups is not None and (groups.shape != (len(images),) or groups.dtype.kind not in "USiu"):
            raise UserError(
                f"{location}: {names['groups']} must be one text or integer for each of {len(images)} images, but is "
                f"{groups.dtype} of shape {groups.shape}"
            )
        return _ImageSet(images, None if groups is None else groups.astype(str)), notes

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write random grayscale images of three classes, without a test split."""
        labels = np.arange(120) % 3
        images = class_images(Stream("npz example"), labels, 3, (8, 8))
        np.savez(folder / "images.npz", images=images, labels=labels)
        return {"path": str(folder / "images.npz")}


def _sort_arrays(
    arrays: Mapping[str, NDArray[Any]], location: str
) -> tuple[dict[Role, dict[str, str]], str, list[str]]:
    """Return the names of the arrays of each split by their content, that of the class names, and those left.

    Raises:
        UserError: a split lacks images or labels, or two arrays could be the same.
    """
    named: dict[Role, dict[str, str]] = {}
    unread, class_names = [], ""
    for name in arrays:
        role, content = _meaning(name)
        if content is None:
            if name.lower() in CLASS_NAMES:
                class_names = name
            else:
                unread.append(name)
            continue
        other = named.setdefault(role, {}).setdefault(content, name)
        if other != name:
            raise UserError(
                f"{location} contains {other} and {name}, which both could be the {role} {content}; remove or rename one"
            )
    named = {role: named[role] for role in ROLES if role in named}
    example = "x_train and y_train, train_images and train_labels, or images and labels"
    if "train" not in named:
        raise UserError(f"{location} must contain {example}, but contains {', '.join(arrays) or 'nothing'}")
    for role, names in named.items():
        missing = [content for content in ("images", "labels") if content not in names]
        if missing:
            raise UserError(
                f"{location} contains {', '.join(names.values())}, but no {role} {' and '.join(missing)}; arrays are named "
                f"{example}, and it contains {', '.join(arrays)}"
            )
    return named, class_names, unread


def _meaning(name: str) -> tuple[Role, str | None]:
    """Return the split and the content that the name of an array stands for."""
    words = [word for word in re.split(r"[ _.-]+", name.lower()) if word]
    contents = {word: content for content, known in NAMES.items() for word in known}
    if len(words) == 1:
        return "train", contents.get(words[0])
    if len(words) == 2:
        for split, word in (words, reversed(words)):
            role = split_role(split)
            if role is not None and word in contents:
                return role, contents[word]
    return "train", None


def _split(
    roles: list[Role],
    sets: Mapping[Role, _ImageSet],
    targets: Mapping[str, NDArray[np.int64]],
    notes: tuple[ReadingNote, ...],
) -> RawSplit:
    """Return the examples with a label; those of the validation split are marked."""
    images = [sets[role].images for role in roles]
    if len({part.shape[1:] for part in images}) > 1:
        shapes = " and ".join(str(part.shape) for part in images)
        raise UserError(
            f"dataset.path: training and validation images have the shapes {shapes}; convert them to one shape"
        )
    groups = [part for role in roles if (part := sets[role].groups) is not None]
    if groups and len(groups) < len(roles):
        raise UserError(
            "dataset.path: the training or the validation images have no groups; add them, or remove the others"
        )
    classes = np.concatenate([targets[role] for role in roles])
    rows = np.flatnonzero(classes >= 0)
    joined = images[0] if len(images) == 1 else np.concatenate(images)
    return RawSplit(
        joined if len(rows) == len(joined) else joined[rows],
        classes[rows],
        validation_mask=rows >= len(images[0]) if len(images) > 1 else None,
        groups=np.concatenate(groups)[rows] if groups else None,
        notes=notes,
    )
