"""Folders of images and masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.images import image_files
from noisybench.data.masks import read_mask
from noisybench.errors import UserError
from noisybench.tasks.datasets._masks import MaskSource, joined, read_stems
from noisybench.utils.seeds import Stream

PARTS = ("train", "val", "test")


class ImageMaskFolder(MaskSource):
    """Images and PNG masks of the same names: `root/images/NAME.jpg` with `root/masks/NAME.png`, or `root/train/images/…`.

    Splits are folders (`train`, `val`, `test` with `images` and `masks` in each), or lists of names (`train.txt`, `val.txt`,
    `test.txt`), or drawn by `test_fraction`; `val` is optional. A mask is a palette or gray image whose numbers are the
    classes, 0 the background and 255 for no label; `values` maps other numbers, such as {255: 1} where 255 is the object.
    A folder `noisy_masks` beside `masks` holds labels as they came, for the noise `real_world`. Classes are named in
    `classes.txt`, a line each; without it there are as many as the greatest number says.
    """

    root: Path | None = parameter(None, help="the folder")
    values: dict[int, int] | None = parameter(None, help="what numbers in the masks mean, such as {255: 1}")
    mask_suffix: str = parameter("", help="what masks' names have after those of the images, such as _segmentation")

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Decode all pairs once; later runs map the decoded ones."""
        if self.root is None:
            raise UserError("dataset.root: give the folder that holds images and masks, e.g. dataset.root=photographs")
        root = self.root.expanduser()
        if not root.is_dir():
            raise UserError(f"dataset.root: {root}: there is no such folder")
        files = self._files(root)
        names = self._class_names(root, files)
        parts = {part: self.decoded(found, len(names), self._values) for part, found in files.items() if found}
        if "train" not in parts:
            raise UserError(
                f"dataset.root: {root} has no training images; expected images/ and masks/, or train/images/"
            )
        return joined(parts["train"], parts.get("val")), parts.get("test"), names

    @property
    def _values(self) -> dict[int, int] | None:
        """As numbers; a specification's keys are text."""
        return None if self.values is None else {int(key): value for key, value in self.values.items()}

    def _files(self, root: Path) -> dict[str, list[tuple[Path, ...]]]:
        """Files of image, mask and perhaps noisy mask, by part."""
        folders = [part for part in PARTS if (root / part / "images").is_dir()]
        if folders:
            return {part: self._pairs(root / part, None) for part in folders}
        lists = [part for part in PARTS if (root / f"{part}.txt").is_file()]
        if lists:
            return {part: self._pairs(root, read_stems(root / f"{part}.txt")) for part in lists}
        return {"train": self._pairs(root, None)}

    def _pairs(self, folder: Path, stems: list[str] | None) -> list[tuple[Path, ...]]:
        images, masks = folder / "images", folder / "masks"
        missing = [each for each in (images, masks) if not each.is_dir()]
        if missing:
            raise UserError(f"dataset.root: {missing[0]} is missing; expected the folders images and masks")
        by_stem = {each.stem: each for each in image_files(images)}
        unknown = [each for each in stems or () if each not in by_stem]
        if unknown:
            raise UserError(f"dataset.root: {len(unknown)} listed images are not in {images}, the first: {unknown[0]}")
        noisy = folder / "noisy_masks"
        kinds = [masks, noisy] if noisy.is_dir() else [masks]
        return [
            (by_stem[stem], *(kind / f"{stem}{self.mask_suffix}.png" for kind in kinds))
            for stem in (by_stem if stems is None else stems)
        ]

    def _class_names(self, root: Path, files: dict[str, list[tuple[Path, ...]]]) -> tuple[str, ...]:
        listed = root / "classes.txt"
        if listed.is_file():
            return tuple(line.strip() for line in listed.read_text().splitlines() if line.strip())
        greatest = 1
        for group in files.get("train", []):
            if group[1].is_file():
                mask = read_mask(group[1], values=self._values)
                greatest = max(greatest, int(mask.max(where=mask != 255, initial=0)))
        return ("background", *(f"class {each}" for each in range(1, greatest + 1)))

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Photographs of bright squares on dark ground, with masks by palette, and unlabelled edges."""
        from PIL import Image

        for part, count in (("train", 24), ("val", 6), ("test", 6)):
            for name in ("images", "masks"):
                (folder / part / name).mkdir(parents=True)
            for number in range(count):
                stream = Stream("mask folder example", part, number)
                pixels, mask = (stream.uniform(16, 20, 3) * 100).astype(np.uint8), np.zeros((16, 20), dtype=np.uint8)
                top, left = (2 + int(6 * each) for each in stream.uniform(2))
                pixels[top : top + 6, left : left + 6] += 120
                mask[top : top + 6, left : left + 6] = 1 + number % 2
                mask[0] = 255
                picture = Image.fromarray(mask)
                if number % 2:
                    picture.putpalette([each for colour in range(256) for each in (colour, 255 - colour, 0)])
                Image.fromarray(pixels).save(folder / part / "images" / f"{number:03}.png")
                picture.save(folder / part / "masks" / f"{number:03}.png")
        (folder / "classes.txt").write_text("background\nsmall\nlarge\n")
        return {"root": str(folder), "size": 16}
