"""Folders of image files, one subfolder per class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.images.cache import read_files
from noisybench.data.images.decoding import IMAGE_SUFFIXES
from noisybench.data.images.examples import class_images
from noisybench.data.images.folders import (
    ClassFolders,
    SplitFolders,
    check_classes_of_split,
    class_folder_notes,
    find_class_folders,
    find_split_folders,
    is_image,
)
from noisybench.data.labels.class_names import similar_names
from noisybench.data.notes import ReadingNote
from noisybench.data.splits.names import ROLES, Role
from noisybench.errors import UserError
from noisybench.tasks.datasets._images import ImageSource
from noisybench.utils.file_listing import FileTree, Source
from noisybench.utils.places import expand_user
from noisybench.utils.seeds import Stream
from noisybench.utils.text import printable

Notes = tuple[ReadingNote, ...]


class ImageFolder(ImageSource):
    """Image files in torchvision's ImageFolder layout: `root/CLASS/IMAGE`, or `root/train/CLASS/IMAGE`.

    Folders of splits have any usual name, such as `Training`, `valid`, `validation` or `test2017`. `validation` is the
    test split if there is no `test`, which is reported; without either, the test split is held out by `test_fraction`.
    Classes are matched by name, and sorted as numbers if all are integers. Images in folders below a class folder are of
    this class.
    """

    license = License("not applicable", access="own files")
    own_files = True

    root: Path | None = parameter(None, help="Folder with the images")
    size: int | None = parameter(
        None, ge=4, help="Side in pixels to which images are resized and cropped at the center"
    )
    split_folders: bool = parameter(
        True, help="Whether folders with names such as train, val or test are splits; if not, every folder is a class"
    )
    ignored_folders: list[str] | None = parameter(
        None, help="Names of folders that are neither splits nor classes, and are not read", access="value"
    )

    def data_files(self) -> Mapping[str, Source]:
        """Return the images of the splits that are read."""
        if self.root is None:
            return {}
        folders = self._find_splits(expand_user(self.root)).folders
        if folders.get("train") == expand_user(self.root):
            return {"images": FileTree(folders["train"], IMAGE_SUFFIXES)}
        return {role: FileTree(folder, IMAGE_SUFFIXES) for role, folder in folders.items()}

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Decode every image once; later runs map the decoded images."""
        if self.root is None:
            raise UserError("dataset.root: set the folder that contains the images, e.g. dataset.root=images")
        root = expand_user(self.root)
        if not root.is_dir():
            raise UserError(f"dataset.root: {root}: folder not found")
        found = self._find_splits(root)
        splits = {
            role: find_class_folders(folder, self.ignored_folders or ()) for role, folder in found.folders.items()
        }
        train = splits["train"]
        self._check_classes(train)
        for split in splits.values():
            check_classes_of_split(train, split)
        class_names = tuple(train.files)
        notes = found.notes + class_folder_notes(list(splits.values()), root)
        notes += similar_names(class_names, f"dataset.root: {train.folder}")
        return (*self._read_splits(splits, class_names, root, notes), class_names)

    def _find_splits(self, root: Path) -> SplitFolders:
        if not self.split_folders or not root.is_dir():
            return SplitFolders({"train": root})
        return find_split_folders(root, self.ignored_folders or ())

    def _check_classes(self, train: ClassFolders) -> None:
        if len(train.files) < 2:
            number, hint = "no class folders", ""
            if train.files:
                (name,) = train.files
                number = f"the one class folder `{printable(name)}`"
                if any(file.parent.parent.name == name for file in train.nested):
                    hint = f"; set dataset.root={train.folder / name} if the class folders are in it"
            elif any(map(is_image, train.unread)):
                hint = "; dataset=image_table reads images with a table of their classes"
            raise UserError(f"dataset.root: {train.folder} has {number}, but at least two are needed{hint}")
        for name, files in train.files.items():
            if not files:
                unread = [file for file in train.unread if name in file.relative_to(train.folder).parts]
                count = f"{len(unread)} other file{'s' if len(unread) > 1 else ''}"
                found = f", but {count} ({unread[0].name}{' …' if len(unread) > 1 else ''})" if unread else ""
                raise UserError(
                    f"dataset.root: {train.folder / name} contains no images ({', '.join(IMAGE_SUFFIXES[:5])} …){found}; "
                    f"remove it, or set dataset.ignored_folders=[{name}]"
                )

    def _read_splits(
        self, splits: Mapping[Role, ClassFolders], class_names: tuple[str, ...], root: Path, notes: Notes
    ) -> tuple[RawSplit, RawSplit | None]:
        """Decode the images of all splits in one stream, and return training with validation examples, and test examples."""
        indices = {name: index for index, name in enumerate(class_names)}
        rows = [
            (role, file, indices[name])
            for role in ROLES
            if role in splits
            for name, files in splits[role].files.items()
            for file in files
        ]
        files = [file for _, file, _ in rows]
        decoded = read_files(files, self.size, self.on_error, self.decoding_rules, root)
        roles, targets = (np.array([row[column] for row in rows])[decoded.kept] for column in (0, 2))
        # Names of validation examples begin with their folder: a name identifies one example of both splits.
        starts = {role: len(str(root if role == "validation" else splits[role].folder)) + 1 for role in splits}
        # By length, because `relative_to` would take a second for a hundred thousand files.
        names = [str(file)[starts[role] :] for role, file, _ in rows]
        kept_names = [names[row] for row in decoded.kept]
        # The splits follow each other, so slices do, which leave the images on disk.
        start = int((roles != "test").sum())
        is_validation = roles[:start] == "validation"
        train = RawSplit(
            decoded.images[:start],
            targets[:start],
            skipped_files=decoded.skipped_files,
            validation_mask=is_validation if "validation" in splits else None,
            names=tuple(kept_names[:start]),
            notes=notes + decoded.notes,
        )
        if "test" not in splits:
            return train, None
        return train, RawSplit(decoded.images[start:], targets[start:], names=tuple(kept_names[start:]))

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write two classes of small PNG files in both splits."""
        from PIL import Image

        for split, count in (("train", 30), ("test", 12)):
            for label, name in enumerate(("circle", "square")):
                (folder / split / name).mkdir(parents=True)
                images = class_images(Stream("folder example", split, name), np.full(count, label), 2, (9, 12, 3))
                for number, pixels in enumerate(images):
                    Image.fromarray(pixels).save(folder / split / name / f"{number:03}.png")
        return {"root": str(folder), "size": 8}
