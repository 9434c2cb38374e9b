"""Mini-WebVision: the first classes of WebVision 1.0."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.images.cache import image_files
from noisybench.data.images.decoding import IMAGE_SUFFIXES
from noisybench.errors import UserError
from noisybench.tasks.datasets._web import (
    LabeledFile,
    WebImages,
    read_list,
    relative_names,
    write_images,
    write_list,
)
from noisybench.utils.file_listing import FileList, FileTree, Source
from noisybench.utils.places import expand_user

TRAIN_LIST, VALIDATION_LIST, SYNSETS = "train_filelist_google.txt", "val_filelist.txt", "synsets.txt"
"""Lists in the folder `info`."""


class MiniWebVision(WebImages):
    """Mini-WebVision: the Google images of the first 50 classes of WebVision 1.0 (Li et al. 2017; Jiang et al. 2018).

    Reads `info/train_filelist_google.txt` and `info/val_filelist.txt`; validation images are in `val_images_256/` or
    `val_images/`. With `evaluate: imagenet` the test split is the ILSVRC12 validation set of the same classes, from folders
    named by WordNet IDs at `imagenet`, which `info/synsets.txt` maps to classes. The classes of the training images are
    unknown; use it with noise=real_world. WebVision 2.0 numbers its classes differently and does not work.
    """

    license = License(
        "not stated",
        "https://data.vision.ee.ethz.ch/cvl/webvision/dataset2017.html",
        note="images from the web belong to others; those of ImageNet need a registration",
    )
    classes: int = parameter(50, ge=2, le=1000, help="Number of classes, counted from the first")
    evaluate: Literal["webvision", "imagenet"] = parameter(
        "webvision", help="Dataset whose validation set is the test split"
    )
    imagenet: Path | None = parameter(None, help="ILSVRC12 validation images in folders named by WordNet IDs")

    def data_files(self) -> Mapping[str, Source]:
        """Return the lists, and the images of the first classes."""
        if self.root is None:
            return {}
        folder, info = self.folder, self.folder / "info"
        files = self._train_files(info)
        sources: dict[str, Source] = {TRAIN_LIST: info / TRAIN_LIST}
        if (info / SYNSETS).is_file():
            sources[SYNSETS] = info / SYNSETS
        if self.evaluate == "webvision":
            sources[VALIDATION_LIST] = info / VALIDATION_LIST
            files += self._validation_files(info)
        elif self.imagenet is not None:
            for wordnet_id, _ in self._synsets(required=True)[: self.classes]:
                sources[f"imagenet/{wordnet_id}"] = FileTree(self.imagenet / wordnet_id, IMAGE_SUFFIXES)
        return {**sources, "images": FileList(folder, relative_names(files, folder))}

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read the lists, and decode every image once."""
        info = self.folder / "info"
        train = self._train_files(info)
        test = self._imagenet_files() if self.evaluate == "imagenet" else self._validation_files(info)
        for source, files in ((TRAIN_LIST, train), ("the test split", test)):
            if not files:
                raise UserError(f"dataset.root: {source} has no image of the first {self.classes} classes")
        num_classes = 1 + max(label for _, label in train + test)
        names = [name for _, name in self._synsets(required=False)][: self.classes]
        if (info / SYNSETS).is_file() and len(names) < num_classes:
            raise UserError(
                f"{info / SYNSETS}: has {len(names)} names, but there are {num_classes} classes; complete or remove it"
            )
        class_names = names or [str(index) for index in range(num_classes)]
        return self.read_noisy(train), self.read_clean(test), tuple(class_names)

    def _train_files(self, info: Path) -> list[LabeledFile]:
        folder = self.folder
        # Filtered before decoding, because the list has the images of all 1,000 classes.
        return [(folder / name, label) for name, label in read_list(info / TRAIN_LIST) if label < self.classes]

    def _validation_files(self, info: Path) -> list[LabeledFile]:
        folders = [self.folder / name for name in ("val_images_256", "val_images")]
        folder = next((candidate for candidate in folders if candidate.is_dir()), None)
        if folder is None:
            raise UserError(
                f"dataset.root: {folders[0]}, the archive of the validation images, is missing; download it as well"
            )
        return [(folder / name, label) for name, label in read_list(info / VALIDATION_LIST) if label < self.classes]

    def _imagenet_files(self) -> list[LabeledFile]:
        if self.imagenet is None:
            raise UserError(
                "dataset.imagenet: set the folder of the ILSVRC12 validation images, with one folder per WordNet ID"
            )
        rows = []
        for label, (wordnet_id, _) in enumerate(self._synsets(required=True)[: self.classes]):
            folder = expand_user(self.imagenet) / wordnet_id
            files = image_files(folder)
            if not files:
                raise UserError(f"dataset.imagenet: {folder} is missing or contains no images")
            rows += [(file, label) for file in files]
        return rows

    def _synsets(self, required: bool) -> list[tuple[str, str]]:
        """Return WordNet ID and name of each class in order."""
        file = self.folder / "info" / SYNSETS
        if not file.is_file():
            if required:
                raise UserError(
                    f"dataset.root: {file}, which maps classes to WordNet IDs, is missing; download it as well"
                )
            return []
        rows = [line.partition(" ") for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [(wordnet_id, name.strip() or wordnet_id) for wordnet_id, _, name in rows]

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write three classes and a surplus one, with both test sets."""
        train = [(f"google/q{row % 4}/{row:03}.jpg", row % 4) for row in range(60)]
        test = [(f"val{row:04}.jpg", row % 4) for row in range(16)]
        write_list(folder / "info" / "train_filelist_google.txt", train)
        write_list(folder / "info" / "val_filelist.txt", test)
        write_list(folder / "info" / "synsets.txt", [(f"n{number:08}", f"kind {number}") for number in range(4)])
        write_images(folder, train, 4)
        write_images(folder / "val_images_256", test, 4)
        names = [(f"n{number:08}/ILSVRC2012_val_{row:08}.JPEG", number) for number in range(4) for row in range(5)]
        write_images(folder / "ilsvrc", names, 4)
        return {"root": str(folder), "size": 8, "classes": 3}
