"""Pascal VOC 2012 segmentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.images.examples import object_image
from noisybench.errors import UserError
from noisybench.tasks.datasets._masks import MaskSource, download_with_torchvision, read_stems
from noisybench.utils.file_listing import FileList, Source
from noisybench.utils.places import expand_user
from noisybench.utils.seeds import Stream

NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


class VOC2012(MaskSource):
    """Pascal VOC 2012 segmentation: 1,464 training and 1,449 test images, 21 classes (Everingham et al. 2015).

    Reads `root/VOCdevkit/VOC2012`, and downloads it with torchvision if it is missing. The augmented masks
    `SegmentationClassAug` (Hariharan et al. 2011), the usual training set, are used if they are present with their list
    `trainaug.txt` (10,582 images); the test split is always the official `val` list with its masks. Void pixels (255) have
    no label. Metrics are computed on images resized to `size`.
    """

    license = License(
        "custom terms", "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/", note="images have the terms of Flickr"
    )
    root: Path = parameter("data", help="Folder that contains VOCdevkit")
    download: bool = parameter(
        True, help="Download the official part if it is missing", in_identity=False, access="download"
    )
    mask_set: Literal["auto", "official", "augmented"] = parameter(
        "auto", help="Set of training masks; `auto` uses the augmented one if it is present", always_in_label=True
    )
    size: int | list[int] | None = parameter(
        256, help="Side of square examples, or height and width such as 256x512, in pixels", always_in_label=True
    )

    def data_files(self) -> Mapping[str, Source]:
        """Return the lists, and the images and masks that they name."""
        folder = self._folder
        sources: dict[str, Source] = {}
        for name, masks in self._splits():
            sources[f"{name}.txt"] = self._list(name)
            # A missing list shows that files are missing, which `fetch` can download.
            if self._list(name).is_file():
                names = [f"{part}" for files in self._files(name, masks) for part in files]
                sources[name] = FileList(folder, tuple(names))
        return sources

    def fetch(self) -> None:
        """Download the official part with torchvision."""
        if not self._list("train").is_file():
            root = expand_user(self.root)
            download_with_torchvision("Pascal VOC 2012", self._folder, self.download, lambda: _download(root))

    @property
    def _folder(self) -> Path:
        return expand_user(self.root) / "VOCdevkit" / "VOC2012"

    def _list(self, name: str) -> Path:
        return self._folder / "ImageSets" / "Segmentation" / f"{name}.txt"

    def _splits(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Return list and folder of masks of the training and the test split."""
        has_augmented = (self._folder / "SegmentationClassAug").is_dir() and self._list("trainaug").is_file()
        if self.mask_set == "augmented" and not has_augmented:
            raise UserError(
                f"dataset.mask_set: {self._folder} has no SegmentationClassAug with ImageSets/Segmentation/trainaug.txt"
            )
        train = ("train", "SegmentationClass")
        if has_augmented and self.mask_set != "official":
            train = ("trainaug", "SegmentationClassAug")
        return train, ("val", "SegmentationClass")

    def _files(self, name: str, masks: str) -> list[tuple[str, str]]:
        """Return image and mask of each example of a list."""
        return [(f"JPEGImages/{stem}.jpg", f"{masks}/{stem}.png") for stem in read_stems(self._list(name))]

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Decode all pairs once; later runs map the decoded arrays."""
        self.fetch()
        folder = self._folder
        train, test = (
            self.read_examples(
                [(folder / image, folder / mask) for image, mask in self._files(name, masks)], len(NAMES)
            )
            for name, masks in self._splits()
        )
        return train, test, NAMES

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write a tiny copy in the official layout."""
        from PIL import Image

        base = folder / "VOCdevkit" / "VOC2012"
        for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
            (base / name).mkdir(parents=True)
        for part, count in (("train", 24), ("val", 6)):
            stems = [f"2007_{part}{number:03}" for number in range(count)]
            (base / "ImageSets" / "Segmentation" / f"{part}.txt").write_text("\n".join(stems) + "\n")
            for stem in stems:
                stream = Stream("voc example", stem)
                mask = np.zeros((20, 24), dtype=np.uint8)
                mask[4:14, 5:18] = 1 + int(20 * stream.uniform(1)[0])
                mask[3] = 255
                Image.fromarray(object_image(stream, mask)).save(base / "JPEGImages" / f"{stem}.jpg")
                picture = Image.fromarray(mask)
                picture.putpalette([value for color in range(256) for value in (color, 0, 255 - color)])
                picture.save(base / "SegmentationClass" / f"{stem}.png")
        return {"root": str(folder), "size": 16}


def _download(root: Path) -> None:
    from torchvision.datasets import VOCSegmentation

    VOCSegmentation(str(root), year="2012", image_set="train", download=True)
