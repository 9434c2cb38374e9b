"""The first classes of WebVision 1.0."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.images import image_files
from noisybench.errors import UserError
from noisybench.tasks.datasets._web import WebImages, read_list, write_images, write_list


class MiniWebVision(WebImages):
    """Mini-WebVision: the Google images of the first 50 classes of WebVision 1.0 (Li et al. 2017; Jiang et al. 2018).

    Reads `info/train_filelist_google.txt` and `info/val_filelist.txt`; validation images lie in `val_images_256/` or
    `val_images/`. With `evaluate: imagenet` the test split is the ILSVRC12 validation set of the same classes, taken from
    folders named by WordNet ids at `imagenet`, which `info/synsets.txt` maps. Nobody knows the classes of the training
    images; use it with noise=real_world. WebVision 2.0 numbers its classes otherwise and does not fit.
    """

    classes: int = parameter(50, ge=2, le=1000, help="how many classes, from the first on")
    evaluate: Literal["webvision", "imagenet"] = parameter("webvision", help="whose validation set is the test split")
    imagenet: Path | None = parameter(None, help="ILSVRC12 validation images in folders named by WordNet ids")

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read the lists and decode every image once."""
        info = self.folder / "info"
        train = [(n, c) for n, c in read_list(info / "train_filelist_google.txt") if c < self.classes]
        test = self._imagenet() if self.evaluate == "imagenet" else self._validation(info)
        for name, rows in (("train_filelist_google.txt", train), ("the test split", test)):
            if not rows:
                raise UserError(f"dataset.root: {name} has no image of the first {self.classes} classes")
        files, given = [self.folder / name for name, _ in train], [label for _, label in train]
        known = max(*given, *(label for _, label in test)) + 1
        names = [name for _, name in self._synsets(required=False)][: self.classes]
        return (
            self.noisy(files, given),
            self.decoded([file for file, _ in test], [label for _, label in test]),
            tuple(names if len(names) >= known else [str(number) for number in range(known)]),
        )

    def _validation(self, info: Path) -> list[tuple[Path, int]]:
        folders = [self.folder / name for name in ("val_images_256", "val_images")]
        folder = next((each for each in folders if each.is_dir()), None)
        if folder is None:
            raise UserError(
                f"dataset.root: {folders[0]} is missing, the archive of the validation images; fetch it as well"
            )
        return [(folder / name, label) for name, label in read_list(info / "val_filelist.txt") if label < self.classes]

    def _imagenet(self) -> list[tuple[Path, int]]:
        if self.imagenet is None:
            raise UserError(
                "dataset.imagenet: give the folder of the ILSVRC12 validation images, with one folder per WordNet id"
            )
        rows = []
        for label, (wordnet, _) in enumerate(self._synsets(required=True)[: self.classes]):
            folder = self.imagenet.expanduser() / wordnet
            found = image_files(folder)
            if not found:
                raise UserError(f"dataset.imagenet: {folder} is missing or holds no image")
            rows += [(file, label) for file in found]
        return rows

    def _synsets(self, required: bool) -> list[tuple[str, str]]:
        """WordNet id and name of each class in order."""
        file = self.folder / "info" / "synsets.txt"
        if not file.is_file():
            if required:
                raise UserError(f"dataset.root: {file} is missing, which maps classes to WordNet ids; fetch it as well")
            return []
        rows = [line.partition(" ") for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [(wordnet, name.strip() or wordnet) for wordnet, _, name in rows]

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Three classes and one that is too many, with both test sets."""
        train = [(f"google/q{row % 4}/{row:03}.jpg", row % 4) for row in range(60)]
        test = [(f"val{row:04}.jpg", row % 4) for row in range(16)]
        write_list(folder / "info" / "train_filelist_google.txt", train)
        write_list(folder / "info" / "val_filelist.txt", test)
        write_list(folder / "info" / "synsets.txt", [(f"n{number:08}", f"kind {number}") for number in range(4)])
        write_images(folder, [name for name, _ in train])
        write_images(folder / "val_images_256", [name for name, _ in test])
        names = [f"n{number:08}/ILSVRC2012_val_{row:08}.JPEG" for number in range(4) for row in range(5)]
        write_images(folder / "ilsvrc", names)
        return {"root": str(folder), "size": 8, "classes": 3}
