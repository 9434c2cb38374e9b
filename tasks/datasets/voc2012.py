"""Pascal VOC 2012."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.errors import UserError
from noisybench.tasks.datasets._masks import MaskSource, read_stems
from noisybench.utils.seeds import Stream

NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


class VOC2012(MaskSource):
    """Pascal VOC 2012 segmentation: 1,464 images for training, 1,449 for testing, 21 classes (Everingham et al. 2015).

    `root/VOCdevkit/VOC2012`, fetched through torchvision where missing. `SegmentationClassAug`, the masks that everyone trains
    on (Hariharan et al. 2011), is used where it is present with its list `trainaug.txt` (10,582 images); testing is always
    on the official `val` list and masks. Void pixels (255) have no label. Scores are those of images brought to `size`.
    """

    root: Path = parameter("data", help="folder that holds VOCdevkit")
    download: bool = parameter(True, help="fetch the official part where it is missing")
    mask_set: Literal["auto", "official", "augmented"] = parameter(
        "auto", help="whose training masks", always_in_label=True
    )
    size: int | None = parameter(
        256, ge=8, help="resize and crop at the centre to size x size pixels", always_in_label=True
    )

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Decode all pairs once; later runs map the decoded ones."""
        folder = self.root.expanduser() / "VOCdevkit" / "VOC2012"
        lists = folder / "ImageSets" / "Segmentation"
        if not (lists / "train.txt").is_file():
            self._fetch()
        augmented = (folder / "SegmentationClassAug").is_dir() and (lists / "trainaug.txt").is_file()
        if self.mask_set == "augmented" and not augmented:
            raise UserError(
                f"dataset.mask_set: {folder} has no SegmentationClassAug with ImageSets/Segmentation/trainaug.txt"
            )
        train = (
            ("trainaug", "SegmentationClassAug")
            if augmented and self.mask_set != "official"
            else ("train", "SegmentationClass")
        )
        parts = []
        for name, masks in (train, ("val", "SegmentationClass")):
            stems = read_stems(lists / f"{name}.txt")
            files = [(folder / "JPEGImages" / f"{each}.jpg", folder / masks / f"{each}.png") for each in stems]
            parts.append(self.decoded(files, len(NAMES)))
        return parts[0], parts[1], NAMES

    def _fetch(self) -> None:
        root = self.root.expanduser()
        place = root / "VOCdevkit" / "VOC2012"
        if not self.download:
            raise UserError(f"dataset.root: {place} is missing; put it there, or allow dataset.download")
        from torchvision.datasets import VOCSegmentation

        try:
            VOCSegmentation(str(root), year="2012", image_set="train", download=True)
        except (RuntimeError, OSError) as error:
            raise UserError(
                f"dataset: Pascal VOC 2012 could not be fetched ({str(error).splitlines()[0]}); put it at {place} yourself"
            ) from None

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """A tiny copy in the official layout."""
        from PIL import Image

        base = folder / "VOCdevkit" / "VOC2012"
        for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
            (base / name).mkdir(parents=True)
        for part, count in (("train", 24), ("val", 6)):
            stems = [f"2007_{part}{number:03}" for number in range(count)]
            (base / "ImageSets" / "Segmentation" / f"{part}.txt").write_text("\n".join(stems) + "\n")
            for stem in stems:
                stream = Stream("voc example", stem)
                pixels, mask = (stream.uniform(20, 24, 3) * 255).astype(np.uint8), np.zeros((20, 24), dtype=np.uint8)
                mask[4:14, 5:18] = 1 + int(20 * stream.uniform(1)[0])
                mask[3] = 255
                Image.fromarray(pixels).save(base / "JPEGImages" / f"{stem}.jpg")
                picture = Image.fromarray(mask)
                picture.putpalette([each for colour in range(256) for each in (colour, 0, 255 - colour)])
                picture.save(base / "SegmentationClass" / f"{stem}.png")
        return {"root": str(folder), "size": 16}
