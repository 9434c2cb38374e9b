"""Cityscapes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.masks.values import MaskValues
from noisybench.data.notes import reading_note
from noisybench.data.splits.names import Role
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError
from noisybench.tasks.datasets._annotations import draw_example, save_image
from noisybench.tasks.datasets._masks import MaskedImages, MaskSource
from noisybench.utils.file_listing import FileTree, Source, list_files
from noisybench.utils.places import expand_user

NAMES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain", "sky",
    "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip

TRAIN_IDS = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14, 28: 15,
    31: 16, 32: 17, 33: 18,
}  # fmt: skip
"""Class of each label identifier that is evaluated, as in the authors' scripts."""

LABEL_IDS = MaskValues({value: TRAIN_IDS.get(value, IGNORED) for value in range(-1, 34)})
LABEL_TRAIN_IDS = MaskValues({**{value: value for value in range(len(NAMES))}, IGNORED: IGNORED})

IMAGE_ENDING = "_leftImg8bit.png"
MASK_ENDINGS = {"_gtFine_labelTrainIds.png": LABEL_TRAIN_IDS, "_gtFine_labelIds.png": LABEL_IDS}


class Cityscapes(MaskSource):
    """Cityscapes with fine annotations: 2,975 training and 500 test images of streets, 19 classes (Cordts et al. 2016).

    Reads the unpacked archives `root/leftImg8bit/train/CITY/…` and `root/gtFine/train/CITY/…`; downloads need an account. Masks
    are `labelTrainIds`, if the authors' scripts have made them for all images, or else `labelIds`, converted in the same way.
    The test split is the official `val`, because the masks of the official `test` are not public. There is no background
    class; other labels have no label (255).
    """

    license = License(
        "custom terms",
        "https://www.cityscapes-dataset.com/license/",
        "registration",
        "no commercial use, and no distribution of the data or of changed copies",
    )
    root: Path = parameter("data/cityscapes", help="Folder that contains leftImg8bit and gtFine")
    size: int | list[int] | None = parameter(
        [512, 1024], help="Height and width of the examples in pixels (null: those of the images)", always_in_label=True
    )
    background: Literal["first", "none"] = parameter(
        "none", help="Background of the masks: the first class, or none, as in street scenes"
    )

    def data_files(self) -> Mapping[str, Source]:
        """Return the images and masks of both splits."""
        root = expand_user(self.root)
        return {
            f"{folder}/{part}": FileTree(root / folder / part, (".png",))
            for folder in ("leftImg8bit", "gtFine")
            for part in ("train", "val")
        }

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Decode all pairs once; later runs map the decoded arrays."""
        root = expand_user(self.root)
        splits: dict[Role, str] = {"train": "train", "test": "val"}
        images = {role: _images(root / "leftImg8bit" / part) for role, part in splits.items()}
        # One kind of masks for all images, because both kinds use the same numbers with different meanings.
        endings = [
            ending
            for ending in MASK_ENDINGS
            if all(_mask(root, splits[role], image, ending).is_file() for role in splits for image in images[role])
        ]
        ending = endings[0] if endings else "_gtFine_labelIds.png"
        parts: dict[Role, MaskedImages] = {}
        for role, part in splits.items():
            files = [(image, _mask(root, part, image, ending)) for image in images[role]]
            names = [image.name.removesuffix(IMAGE_ENDING) for image in images[role]]
            used = {mask.name for _, mask in files}
            masks = [file.name for file in list_files(root / "gtFine" / part, (ending,)) if file.name not in used]
            notes = reading_note("mask_without_image", "Masks without an image were not read", masks)
            parts[role] = MaskedImages(files, names, notes)
        return self.read_splits(parts, NAMES, MASK_ENDINGS[ending])

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write a tiny copy in the official layout."""
        for part, count in (("train", 24), ("val", 6)):
            for number in range(count):
                pixels, corners = draw_example(number, part)
                left, top = int(corners[0]), int(corners[1])
                mask = np.full((16, 20), 7, dtype=np.uint8)
                mask[top : top + 6, left : left + 6] = (26, 11)[number % 2]
                mask[0] = 3
                name = f"bonn_{number:06}_000019"
                save_image(folder / "leftImg8bit" / part / "bonn" / f"{name}{IMAGE_ENDING}", pixels)
                save_image(folder / "gtFine" / part / "bonn" / f"{name}_gtFine_labelIds.png", mask)
        return {"root": str(folder), "size": 16}


def _images(folder: Path) -> list[Path]:
    images = list_files(folder, (IMAGE_ENDING.lower(),))
    if not images:
        raise UserError(
            f"dataset.root: {folder} contains no images CITY/*{IMAGE_ENDING}; unpack leftImg8bit_trainvaltest.zip and "
            "gtFine_trainvaltest.zip of cityscapes-dataset.com beside each other"
        )
    return images


def _mask(root: Path, part: str, image: Path, ending: str) -> Path:
    """Return the mask of an image."""
    return root / "gtFine" / part / image.parent.name / f"{image.name.removesuffix(IMAGE_ENDING)}{ending}"
