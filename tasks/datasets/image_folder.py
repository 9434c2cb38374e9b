"""Folders of image files, one sub-folder per class."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.images import IMAGE_SUFFIXES, image_files, read_files
from noisybench.data.source import DatasetSource
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream


class ImageFolder(DatasetSource):
    """Image files in torchvision's ImageFolder layout: `root/CLASS/IMAGE`, or `root/train/…` and `root/test/…`.

    Where `root` has a folder `train`, its test split is `test` or else `val`; without either it is held out by
    `test_fraction`. Classes and files count in sorted order.
    """

    root: Path | None = parameter(None, help="the folder")
    size: int | None = parameter(None, ge=4, help="resize and crop at the centre to size x size pixels")
    on_error: Literal["raise", "skip"] = parameter(
        "raise", help="Treatment of damaged or missing images: `raise` an error, or `skip` and record them"
    )

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Decode every image once; later runs map the decoded ones."""
        if self.root is None:
            raise UserError("dataset.root: give the folder that holds the images, e.g. dataset.root=images")
        root = self.root.expanduser()
        if not root.is_dir():
            raise UserError(f"dataset.root: {root}: there is no such folder")
        training = root / "train" if (root / "train").is_dir() else root
        class_names = tuple(sorted(each.name for each in training.iterdir() if each.is_dir() and each.name[0] != "."))
        if len(class_names) < 2:
            raise UserError(
                f"dataset.root: {training} has {len(class_names)} class folders, but at least two are needed"
            )
        tests = [root / name for name in ("test", "val") if training != root and (root / name).is_dir()]
        return (
            self._split(training, class_names),
            self._split(tests[0], class_names) if tests else None,
            class_names,
        )

    def _split(self, folder: Path, class_names: tuple[str, ...]) -> RawSplit:
        files: list[Path] = []
        targets: list[int] = []
        for target, name in enumerate(class_names):
            found = image_files(folder / name)
            if not found:
                raise UserError(f"dataset.root: {folder / name} holds no image ({', '.join(IMAGE_SUFFIXES)})")
            files += found
            targets += [target] * len(found)
        decoded = read_files(files, self.size, self.on_error)
        names = np.array([each.relative_to(folder).as_posix() for each in files])[decoded.kept]
        return RawSplit(
            decoded.images,
            np.array(targets)[decoded.kept],
            skipped_files=decoded.skipped_files,
            names=tuple(names.tolist()),
        )

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Two classes of small PNG files in both splits."""
        from PIL import Image

        for split, count in (("train", 30), ("test", 12)):
            for name in ("circle", "square"):
                (folder / split / name).mkdir(parents=True)
                for number in range(count):
                    pixels = (Stream("folder example", split, name, number).uniform(9, 12, 3) * 256).astype(np.uint8)
                    Image.fromarray(pixels).save(folder / split / name / f"{number:03}.png")
        return {"root": str(folder), "size": 8}
