"""Controlled noisy web labels (CNWL): red mini-ImageNet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.images.cache import image_files
from noisybench.data.images.decoding import IMAGE_SUFFIXES
from noisybench.data.notes import ReadingNote
from noisybench.data.targets import OOD_TARGET
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

NOISE_LEVELS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)


class CNWL(WebImages):
    """Red mini-ImageNet: 100 classes in which a known fraction of the images comes from the web (Jiang et al. 2020).

    The target of an image with an ImageNet name (n…) is its label; web images count as out-of-distribution, although a few
    of them show another class. The clean validation split is the test split, as in all published tables. Use it with
    noise=real_world.

    Three layouts are recognized: `split/red_noise_nl_0.4` with all images in `all_images_resampled_84/` and
    `validation/CLASS/`; folders `training/red_noise_nl_0.4/CLASS/` and `validation/CLASS/`; `CLASS/` folders beside the
    lists, which then also list the validation images. Classes are numbers.
    """

    license = License(
        "CC-BY-4.0",
        "https://google.github.io/controlled-noisy-web-labels/",
        note="of the annotations; web images have licenses of their own, and those of ImageNet its terms",
    )
    size: int = parameter(32, ge=4, help="Side in pixels to which images are resized and cropped at the center")
    noise_level: float = parameter(
        0.4, ge=0, le=0.8, help="Fraction of web images: 0, .05, .1, .15, .2, .3, .4, .5, .6 or .8"
    )

    def data_files(self) -> Mapping[str, Source]:
        """Return the lists or folders of the noise level, and the validation images."""
        if self.root is None:
            return {}
        folder, name = self.folder, f"red_noise_nl_{self.noise_level}"
        if (folder / "training").is_dir():
            parts = {"training": folder / "training" / name, "validation": folder / "validation"}
            return {part: FileTree(path, IMAGE_SUFFIXES) for part, path in parts.items()}
        lists = self._find_lists(name)
        files = [file for split in self._read_lists(name) for file in split]
        return {**{file.name: file for file in lists}, "images": FileList(folder, relative_names(files, folder))}

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Detect the layout, read the lists or folders, and decode every image once."""
        if self.noise_level not in NOISE_LEVELS:
            raise UserError(
                f"dataset.noise_level: must be one of {', '.join(map(str, NOISE_LEVELS))}, but got {self.noise_level}"
            )
        name = f"red_noise_nl_{self.noise_level}"
        notes: tuple[ReadingNote, ...] = ()
        if (self.folder / "training").is_dir():
            train, test = self._read_folders(name)
            notes = self.unread_notes(self.folder / "training" / name, self.folder / "validation")
        else:
            train, test = self._read_lists(name)
        num_classes = 1 + max(label for _, label in train + test)
        targets = [label if is_imagenet(file.name) else OOD_TARGET for file, label in train]
        noisy_labels = [label for _, label in train]
        split = self.read_examples([file for file, _ in train], targets, noisy_labels)
        return (
            replace(split, notes=notes + split.notes),
            self.read_clean(test),
            tuple(map(str, range(num_classes))),
        )

    def _find_lists(self, name: str) -> tuple[Path, Path]:
        """Return the list of the training and that of the test images."""
        lists = next((folder for folder in (self.folder / "split", self.folder) if (folder / name).is_file()), None)
        if lists is None:
            raise UserError(
                f"dataset.root: {self.folder} has neither split/{name} nor training/{name}; the lists are in the published "
                "archive dataset_no_images.zip, for noise levels " + ", ".join(map(str, NOISE_LEVELS))
            )
        candidates = (lists / "validation", lists / "clean_validation")
        test_list = next((file for file in candidates if file.is_file()), None)
        if test_list is None:
            raise UserError(f"dataset.root: the list {candidates[1]} is missing; download it as well")
        return lists / name, test_list

    def _read_lists(self, name: str) -> tuple[list[LabeledFile], list[LabeledFile]]:
        train_list, test_list = self._find_lists(name)
        flat = self.folder / "all_images_resampled_84"
        is_flat = flat.is_dir()
        train = [
            (flat / file if is_flat else self.folder / str(label) / file, label)
            for file, label in read_list(train_list)
        ]
        folder = self.folder / "validation" if (self.folder / "validation").is_dir() else self.folder
        return train, [(folder / str(label) / file, label) for file, label in read_list(test_list)]

    def _read_folders(self, name: str) -> tuple[list[LabeledFile], list[LabeledFile]]:
        return read_class_folders(self.folder / "training" / name), read_class_folders(self.folder / "validation")

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write the first layout."""
        write_example(folder, "A")
        return {"root": str(folder), "size": 8}


def is_imagenet(name: str) -> bool:
    """Return True for file names of mini-ImageNet, `n` and 16 digits; web images have other names."""
    return name.startswith("n")


def read_class_folders(folder: Path) -> list[LabeledFile]:
    """Return the images in folders named by class indices, sorted.

    Raises:
        UserError: the folder does not exist, or contains no images in such folders.
    """
    # Sorted as numbers, because 10 precedes 2 in the order of text.
    folders = sorted((path for path in folder.glob("*") if path.name.isdecimal()), key=lambda path: int(path.name))
    rows = [(file, int(path.name)) for path in folders for file in image_files(path)]
    if not rows:
        raise UserError(f"dataset.root: {folder} is missing, or has no images in folders named 0, 1, 2 …")
    return rows


def write_example(folder: Path, layout: str) -> None:
    """Write four classes in layout A, B or C: 60 training images, every third from the web, and 20 test images."""
    train = [(f"n{row:016}.jpg" if row % 3 else f"web{row:04}.jpg", row % 4) for row in range(60)]
    test = [(f"n{row:016}.jpg", row % 4) for row in range(100, 120)]
    if layout == "B":
        write_images(folder / "training" / "red_noise_nl_0.4", [(f"{label}/{name}", label) for name, label in train], 4)
        write_images(folder / "validation", [(f"{label}/{name}", label) for name, label in test], 4)
        return
    write_list(folder / "split" / "red_noise_nl_0.4", train)
    write_list(folder / "split" / ("validation" if layout == "A" else "clean_validation"), test)
    if layout == "A":
        write_images(folder / "all_images_resampled_84", train, 4)
        write_images(folder / "validation", [(f"{label}/{name}", label) for name, label in test], 4)
    else:
        write_images(folder, [(f"{label}/{name}", label) for name, label in train + test], 4)
