"""Base class of datasets of images with segmentation masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.geometry import parse_geometry
from noisybench.data.masks.instances import check_instances, read_instances
from noisybench.data.masks.layout import MaskLayout
from noisybench.data.masks.masks import CLASS_INDICES, MaskedImage, MaskReader, read_pairs
from noisybench.data.masks.meaning import check_objects
from noisybench.data.masks.pairs import read_names
from noisybench.data.masks.values import MaskValues
from noisybench.data.notes import ReadingNote, reading_note
from noisybench.data.splits.names import Role
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError
from noisybench.tasks.datasets._images import ImageSource


class MaskSource(ImageSource):
    """Images with masks, from files."""

    tasks = ("segmentation",)
    _values = CLASS_INDICES

    size: int | list[int] | None = parameter(
        None,
        help="Side of square examples, or height and width such as 256x512, in pixels (default: the size of the images)",
        always_in_label=True,
    )
    resize_mode: Literal["resize", "letterbox", "crop", "tile"] = parameter(
        "resize",
        help="Treatment of images of another shape: stretch them, pad them (without labels), crop them at the center, or cut "
        "them into padded tiles",
    )
    background: Literal["first", "none"] = parameter(
        "first",
        help="Background of the masks: the first class, or none, as in scenes of streets or land cover; then noise acts between "
        "neighboring classes, and methods and scores treat all classes alike",
    )
    on_error: Literal["raise", "skip"] = parameter(
        "raise", help="Treatment of images or masks that cannot be used: `raise` an error, or `skip` and record them"
    )

    @property
    def has_background(self) -> bool:
        """Whether class 0 is the background."""
        return self.background == "first"

    def read_examples(
        self,
        files: Sequence[MaskedImage],
        num_classes: int,
        values: MaskValues = CLASS_INDICES,
        names: Sequence[str] | None = None,
        instances: Sequence[Path] = (),
    ) -> RawSplit:
        """Return the examples of image files with their masks.

        Args:
            files: image, mask and, if there is one, noisy mask of each example.
            num_classes: number of classes.
            values: class of each value or color in mask files.
            names: name of each example; None for the names of the images without folder and suffix.
            instances: instance mask of each image; empty if there are none.

        Raises:
            UserError: there are no files, or some cannot be used.
        """
        if not files:
            raise UserError("dataset: there are no images with masks")
        self._values = values
        geometry = parse_geometry(self.size, self.resize_mode)
        pairs = read_pairs(files, geometry, self.on_error, values, num_classes, self.decoding_rules)
        sources = tuple(files[row][0].stem if names is None else names[row] for row in pairs.kept)
        layout, is_tiled = MaskLayout(sources, pairs.placements), geometry.mode == "tile"
        return RawSplit(
            pairs.images,
            pairs.masks,
            pairs.noisy_masks,
            pairs.skipped_files,
            names=layout.example_names,
            notes=pairs.notes,
            # Tiles of one image are alike, so they belong to one split.
            groups=np.array([str(files[row][0]) for row in pairs.kept]) if is_tiled else None,
            mask_layout=layout,
            instances=read_instances([instances[row] for row in pairs.kept], pairs.placements) if instances else None,
        )

    def read_splits(
        self, parts: Mapping[Role, MaskedImages], class_names: tuple[str, ...], values: MaskValues = CLASS_INDICES
    ) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Return training and test examples, and class names, as `read` does.

        Args:
            parts: examples of each split.
            class_names: names of the classes.
            values: class of each value or color in mask files.

        Raises:
            UserError: there are no training images, some files cannot be used, or the training masks have one class.
        """
        splits = {
            role: self.read_examples(part.files, len(class_names), values, part.names, part.instances)
            for role, part in parts.items()
            if part.files
        }
        splits = {
            role: replace(
                split,
                notes=parts[role].notes + split.notes,
                # Files of one name in two splits are different images.
                groups=None if split.groups is None else np.array([f"{role}/{group}" for group in split.groups]),
            )
            for role, split in splits.items()
        }
        if "train" not in splits:
            raise UserError("dataset.root: there are no training images with masks")
        for split in splits.values():
            if split.instances is not None:
                check_instances(split.instances, split.targets, split.names, class_names, "dataset.root: instances")
        train = append_validation(splits["train"], splits.get("validation"))
        if train.noisy_targets is not None:
            check_objects(train.noisy_targets, train.targets, "dataset.root: noisy_masks")
        return replace(train, notes=train.notes + _class_notes(train, class_names)), splits.get("test"), class_names

    def mask_reader(self) -> MaskReader:
        """Return the reader of further masks of the same images."""
        return MaskReader(self._values, self.mask_name_suffix)

    @property
    def mask_name_suffix(self) -> str:
        """End of the names of masks that the names of images do not have."""
        return ""


@dataclass(frozen=True)
class MaskedImages:
    """Images of one split with their masks.

    Attributes:
        files: image, mask and, if there is one, noisy mask of each example.
        names: name of each example.
        notes: facts about the files.
        instances: instance mask of each example; empty if there are none.
    """

    files: Sequence[MaskedImage]
    names: Sequence[str]
    notes: tuple[ReadingNote, ...] = ()
    instances: Sequence[Path] = ()


def _class_notes(train: RawSplit, class_names: tuple[str, ...]) -> tuple[ReadingNote, ...]:
    """Return a note about classes without a pixel.

    Raises:
        UserError: all pixels have one class.
    """
    counts = np.bincount(train.targets.ravel(), minlength=IGNORED + 1)[: len(class_names)]
    present = np.flatnonzero(counts)
    if len(present) < 2:
        raise UserError(
            f"dataset: every labeled pixel of the training masks is `{class_names[int(present[0])]}`, so there is nothing to "
            "learn; check the masks or annotations, and what their values stand for"
        )
    absent = [class_names[index] for index in np.flatnonzero(counts == 0)]
    return reading_note("absent_class", "Classes have no pixel in the training masks", absent)


def download_with_torchvision(name: str, folder: Path, allowed: bool, download: Callable[[], object]) -> None:
    """Download a dataset.

    Args:
        name: name of the dataset in messages.
        folder: where its files belong.
        allowed: value of the parameter `download`.
        download: calls torchvision.

    Raises:
        UserError: downloads are not allowed, or this one fails.
    """
    if not allowed:
        raise UserError(f"dataset.root: {folder} is missing; put it there, or set dataset.download=true")
    try:
        download()
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"dataset: {name} could not be downloaded ({reason}); download it on another machine and put it at {folder}"
        ) from None


def read_stems(path: Path) -> list[str]:
    """Return the file stems from a list with one image per line; only the first column counts.

    Raises:
        UserError: the list is missing or empty, or names an image twice.
    """
    return [Path(line.split()[0]).stem for line in read_names(path)]


def append_validation(train: RawSplit, validation: RawSplit | None) -> RawSplit:
    """Return the training examples followed by the source's own validation examples.

    If names occur in both, those of validation examples get the prefix `val/`.

    Raises:
        UserError: only one of both has noisy masks, or instances.
    """
    if validation is None:
        return train
    if (train.noisy_targets is None) != (validation.noisy_targets is None):
        raise UserError("dataset: only one of the training and validation splits has noisy masks; add the others")
    if (train.instances is None) != (validation.instances is None):
        raise UserError("dataset: only one of the training and validation splits has instance masks; add the others")
    sizes = (len(train.targets), len(validation.targets))
    # Names identify examples, for instance as names of files, so they must not occur twice.
    if set(_source_names(train)) & set(_source_names(validation)):
        validation = _prefix_names(validation, "val/")
    noisy_targets = (
        None
        if train.noisy_targets is None or validation.noisy_targets is None
        else np.concatenate([train.noisy_targets, validation.noisy_targets])
    )
    groups = layout = instances = None
    if train.instances is not None and validation.instances is not None:
        instances = np.concatenate([train.instances, validation.instances])
    if train.groups is not None and validation.groups is not None:
        groups = np.concatenate([train.groups, validation.groups])
    if train.mask_layout is not None and validation.mask_layout is not None:
        layout = train.mask_layout.append(validation.mask_layout)
    return RawSplit(
        np.concatenate([train.inputs, validation.inputs]),
        np.concatenate([train.targets, validation.targets]),
        noisy_targets,
        train.skipped_files + validation.skipped_files,
        np.repeat([False, True], sizes),
        train.names + validation.names,
        train.notes + validation.notes,
        groups,
        mask_layout=layout,
        instances=instances,
    )


def _source_names(split: RawSplit) -> tuple[str, ...]:
    return split.names if split.mask_layout is None else split.mask_layout.names


def _prefix_names(split: RawSplit, prefix: str) -> RawSplit:
    """Return a split in which the names of examples and of their source images have a prefix."""
    layout = split.mask_layout
    return replace(
        split,
        names=tuple(f"{prefix}{name}" for name in split.names),
        groups=None if split.groups is None else np.char.add(prefix, split.groups),
        mask_layout=None
        if layout is None
        else replace(layout, names=tuple(f"{prefix}{name}" for name in layout.names)),
    )
