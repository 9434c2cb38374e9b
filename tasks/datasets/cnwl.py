"""Controlled noisy web labels: red mini-ImageNet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.images import image_files
from noisybench.data.targets import OOD_TARGET
from noisybench.errors import UserError
from noisybench.tasks.datasets._web import WebImages, read_list, write_images, write_list

LEVELS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)


class CNWL(WebImages):
    """Red mini-ImageNet: 100 classes in which a stated share of the images comes from the web (Jiang et al. 2020).

    An image named as in ImageNet (n…) has its label as target; a web image counts as one of no class, although a small
    part only has another class. The clean validation split is the test split, as in all published tables. Use it with
    noise=real_world.

    Three layouts are found by themselves: `split/red_noise_nl_0.4` with all images in `all_images_resampled_84/` and
    `validation/CLASS/`; folders `training/red_noise_nl_0.4/CLASS/` and `validation/CLASS/`; `CLASS/` folders beside the
    lists, which then name validation images as well. Classes are numbers.
    """

    size: int = parameter(32, ge=4, help="resize and crop at the centre to size x size pixels")
    noise_level: float = parameter(
        0.4, ge=0, le=0.8, help="share of web images: 0, .05, .1, .15, .2, .3, .4, .5, .6 or .8"
    )

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Find the layout, read the lists or folders, and decode every image once."""
        if self.noise_level not in LEVELS:
            raise UserError(
                f"dataset.noise_level: must be one of {', '.join(map(str, LEVELS))}, but got {self.noise_level}"
            )
        name = f"red_noise_nl_{self.noise_level}"
        train, test = self._by_folders(name) if (self.folder / "training").is_dir() else self._by_lists(name)
        classes = 1 + max(label for _, label in train + test)
        given = [label for _, label in train]
        targets = [label if is_imagenet(file.name) else OOD_TARGET for file, label in train]
        return (
            self.decoded([file for file, _ in train], targets, given),
            self.decoded([file for file, _ in test], [label for _, label in test]),
            tuple(str(number) for number in range(classes)),
        )

    def _by_lists(self, name: str) -> tuple[list[tuple[Path, int]], list[tuple[Path, int]]]:
        lists = next((each for each in (self.folder / "split", self.folder) if (each / name).is_file()), None)
        if lists is None:
            raise UserError(
                f"dataset.root: {self.folder} has neither split/{name} nor training/{name}; lists are in the published archive "
                "dataset_no_images.zip, for noise levels " + ", ".join(map(str, LEVELS))
            )
        flat = self.folder / "all_images_resampled_84"
        train = [
            (flat / file if flat.is_dir() else self.folder / str(label) / file, label)
            for file, label in read_list(lists / name)
        ]
        held_out = next((lists / each for each in ("validation", "clean_validation") if (lists / each).is_file()), None)
        if held_out is None:
            raise UserError(f"dataset.root: the list {lists / 'clean_validation'} is missing; fetch it as well")
        folder = self.folder / "validation" if (self.folder / "validation").is_dir() else self.folder
        return train, [(folder / str(label) / file, label) for file, label in read_list(held_out)]

    def _by_folders(self, name: str) -> tuple[list[tuple[Path, int]], list[tuple[Path, int]]]:
        return by_class(self.folder / "training" / name), by_class(self.folder / "validation")

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """The first layout."""
        write_example(folder, "A")
        return {"root": str(folder), "size": 8}


def is_imagenet(name: str) -> bool:
    """Whether a file is named as mini-ImageNet's are: `n` and 16 digits; web images have other names."""
    return name.startswith("n")


def by_class(folder: Path) -> list[tuple[Path, int]]:
    """Images in folders named by class numbers, with these numbers, sorted.

    Raises:
        UserError: there is no such folder, or it has no such folders.
    """
    found = sorted((each for each in folder.glob("*") if each.name.isdigit()), key=lambda each: int(each.name))
    rows = [(file, int(each.name)) for each in found for file in image_files(each)]
    if not rows:
        raise UserError(f"dataset.root: {folder} is missing, or has no images in folders named 0, 1, 2 …")
    return rows


def write_example(folder: Path, layout: str) -> None:
    """Four classes in one of the layouts A, B and C: 60 training images, every third from the web, and 20 to test."""
    train = [(f"n{row:016}.jpg" if row % 3 else f"web{row:04}.jpg", row % 4) for row in range(60)]
    test = [(f"n{row:016}.jpg", row % 4) for row in range(100, 120)]
    if layout == "B":
        write_images(folder / "training" / "red_noise_nl_0.4", [f"{label}/{name}" for name, label in train])
        write_images(folder / "validation", [f"{label}/{name}" for name, label in test])
        return
    write_list(folder / "split" / "red_noise_nl_0.4", train)
    write_list(folder / "split" / ("validation" if layout == "A" else "clean_validation"), test)
    if layout == "A":
        write_images(folder / "all_images_resampled_84", [name for name, _ in train])
        write_images(folder / "validation", [f"{label}/{name}" for name, label in test])
    else:
        write_images(folder, [f"{label}/{name}" for name, label in train + test])
