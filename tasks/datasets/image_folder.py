"""Folders of image files, one subfolder per class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.image_decoding import IMAGE_SUFFIXES
from noisybench.data.images import image_files, read_files
from noisybench.data.source import DatasetSource
from noisybench.errors import UserError
from noisybench.utils.file_listing import FileTree, Source
from noisybench.utils.places import expand_user
from noisybench.utils.seeds import Stream


class ImageFolder(DatasetSource):
    """Image files in torchvision's ImageFolder layout: `root/CLASS/IMAGE`, or `root/train/…` and `root/test/…`.

    If `root` has a folder `train`, the test split is `test`, or else `val`; without either it is held out by
    `test_fraction`. Classes and files are sorted by name.
    """

    own_files = True
    root: Path | None = parameter(None, help="Folder with the images")
    size: int | None = parameter(
        None, ge=4, help="Side in pixels to which images are resized and cropped at the center"
    )
    on_error: Literal["raise", "skip"] = parameter(
        "raise", help="Treatment of damaged images: `raise` an error, or `skip` and record them"
    )

    def data_files(self) -> Mapping[str, Source]:
        """Return the images of the splits that are read."""
        if self.root is None:
            return {}
        train, test = self._split_folders()
        name = "images" if train == expand_user(self.root) else "train"
        folders = {name: train, **({} if test is None else {"test": test})}
        return {name: FileTree(folder, IMAGE_SUFFIXES) for name, folder in folders.items()}

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Decode every image once; later runs map the decoded images."""
        if self.root is None:
            raise UserError("dataset.root: set the folder that contains the images, e.g. dataset.root=images")
        root = expand_user(self.root)
        if not root.is_dir():
            raise UserError(f"dataset.root: {root}: folder not found")
        train, test = self._split_folders()
        # Hidden folders, such as those that tools leave behind, are not classes.
        class_names = tuple(sorted(path.name for path in train.iterdir() if path.is_dir() and path.name[0] != "."))
        if len(class_names) < 2:
            raise UserError(f"dataset.root: {train} has {len(class_names)} class folders, but at least two are needed")
        return (
            self._read_split(train, class_names),
            None if test is None else self._read_split(test, class_names),
            class_names,
        )

    def _split_folders(self) -> tuple[Path, Path | None]:
        """Return the folders of the training and the test split."""
        assert self.root is not None
        root = expand_user(self.root)
        if not (root / "train").is_dir():
            return root, None
        return root / "train", next((root / name for name in ("test", "val") if (root / name).is_dir()), None)

    def _read_split(self, folder: Path, class_names: tuple[str, ...]) -> RawSplit:
        files: list[Path] = []
        targets: list[int] = []
        # The test split uses the class names of the training split, so that an index means the same class in both.
        for target, name in enumerate(class_names):
            class_files = image_files(folder / name)
            if not class_files:
                raise UserError(f"dataset.root: {folder / name} contains no images ({', '.join(IMAGE_SUFFIXES)})")
            files += class_files
            targets += [target] * len(class_files)
        decoded = read_files(files, self.size, self.on_error)
        names = np.array([file.relative_to(folder).as_posix() for file in files])[decoded.kept]
        return RawSplit(
            decoded.images,
            np.array(targets)[decoded.kept],
            skipped_files=decoded.skipped_files,
            names=tuple(names.tolist()),
        )

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write two classes of small PNG files in both splits."""
        from PIL import Image

        for split, count in (("train", 30), ("test", 12)):
            for name in ("circle", "square"):
                (folder / split / name).mkdir(parents=True)
                for number in range(count):
                    pixels = (Stream("folder example", split, name, number).uniform(9, 12, 3) * 256).astype(np.uint8)
                    Image.fromarray(pixels).save(folder / split / name / f"{number:03}.png")
        return {"root": str(folder), "size": 8}
