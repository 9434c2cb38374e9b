"""Folders of images and masks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.image_decoding import IMAGE_SUFFIXES
from noisybench.data.images import image_files
from noisybench.data.masks import read_mask
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError
from noisybench.tasks.datasets._masks import MaskSource, append_validation, read_stems
from noisybench.utils.file_listing import FileTree, Source
from noisybench.utils.places import expand_user, read_text
from noisybench.utils.seeds import Stream

PARTS = ("train", "val", "test")
FOLDERS = ("images", "masks", "noisy_masks")
CLASS_LIST = "classes.txt"


class ImageMaskFolder(MaskSource):
    """Images and PNG masks of the same names: `root/images/NAME.jpg` with `root/masks/NAME.png`, or `root/train/images/…`.

    Splits are folders (`train`, `val`, `test` with `images` and `masks` in each), or lists of names (`train.txt`, `val.txt`,
    `test.txt`), or drawn by `test_fraction`; `val` is optional. A mask is a palette or grayscale image whose values are the
    classes, with 0 for the background and 255 for no label; `values` maps other values, such as {255: 1} if 255 is the
    object. A folder `noisy_masks` beside `masks` contains noisy labels for noise=real_world. Class names are the lines of
    `classes.txt`; without it the largest mask value decides the number of classes.
    """

    own_files = True
    root: Path | None = parameter(None, help="Folder with the images and masks")
    values: dict[int, int] | None = parameter(None, help="Class of each mask value, such as {255: 1}")
    mask_suffix: str = parameter(
        "", help="Suffix of mask names that image names do not have, such as _segmentation", access="place"
    )

    def data_files(self) -> Mapping[str, Source]:
        """Return the images, masks and lists; other files in `root` do not count."""
        if self.root is None:
            return {}
        root = expand_user(self.root)
        folders = [f"{part}{name}" for part in ("", *(f"{part}/" for part in PARTS)) for name in FOLDERS]
        sources: dict[str, Source] = {
            name: FileTree(root / name, IMAGE_SUFFIXES) for name in folders if (root / name).is_dir()
        }
        lists = [name for name in (CLASS_LIST, *(f"{part}.txt" for part in PARTS)) if (root / name).is_file()]
        return {**sources, **{name: root / name for name in lists}} or {"root": root}

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Decode all pairs once; later runs map the decoded arrays."""
        if self.root is None:
            raise UserError(
                "dataset.root: set the folder that contains images and masks, e.g. dataset.root=photographs"
            )
        root = expand_user(self.root)
        if not root.is_dir():
            raise UserError(f"dataset.root: {root}: folder not found")
        files = self._find_files(root)
        names = self._class_names(root, files)
        splits = {
            part: self.read_examples(pairs, len(names), self._int_values) for part, pairs in files.items() if pairs
        }
        if "train" not in splits:
            raise UserError(
                f"dataset.root: {root} has no training images; expected images/ and masks/, or train/images/"
            )
        return append_validation(splits["train"], splits.get("val")), splits.get("test"), names

    @property
    def _int_values(self) -> dict[int, int] | None:
        """Class of each mask value; the keys of a specification may be text."""
        return None if self.values is None else {int(key): value for key, value in self.values.items()}

    def _find_files(self, root: Path) -> dict[str, list[tuple[Path, ...]]]:
        """Return image, mask and, if there is one, noisy mask of each example, by split."""
        folders = [part for part in PARTS if (root / part / "images").is_dir()]
        if folders:
            return {part: self._find_pairs(root / part, None) for part in folders}
        lists = [part for part in PARTS if (root / f"{part}.txt").is_file()]
        if lists:
            return {part: self._find_pairs(root, read_stems(root / f"{part}.txt")) for part in lists}
        return {"train": self._find_pairs(root, None)}

    def _find_pairs(self, folder: Path, stems: list[str] | None) -> list[tuple[Path, ...]]:
        images, masks, noisy_masks = (folder / name for name in FOLDERS)
        missing = [path for path in (images, masks) if not path.is_dir()]
        if missing:
            raise UserError(f"dataset.root: {missing[0]} is missing; expected the folders images and masks")
        by_stem = {file.stem: file for file in image_files(images)}
        unknown = [stem for stem in stems or () if stem not in by_stem]
        if unknown:
            raise UserError(f"dataset.root: {len(unknown)} listed images are not in {images}, the first: {unknown[0]}")
        mask_folders = [masks, noisy_masks] if noisy_masks.is_dir() else [masks]
        return [
            (by_stem[stem], *(path / f"{stem}{self.mask_suffix}.png" for path in mask_folders))
            for stem in (by_stem if stems is None else stems)
        ]

    def _class_names(self, root: Path, files: dict[str, list[tuple[Path, ...]]]) -> tuple[str, ...]:
        class_list = root / CLASS_LIST
        if class_list.is_file():
            return tuple(line.strip() for line in read_text(class_list, "dataset.root").splitlines() if line.strip())
        # Background and at least one object class, even if all masks are empty.
        highest = 1
        for _, mask_file, *_ in files.get("train", []):
            # A missing mask is reported when the pairs are read, with the treatment that `on_error` names.
            if mask_file.is_file():
                mask = read_mask(mask_file, values=self._int_values)
                highest = max(highest, int(mask.max(where=mask != IGNORED, initial=0)))
        return ("background", *(f"class {index}" for index in range(1, highest + 1)))

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write images of bright squares on a dark background, some with palette masks, and unlabeled edges."""
        from PIL import Image

        for part, count in (("train", 24), ("val", 6), ("test", 6)):
            for name in ("images", "masks"):
                (folder / part / name).mkdir(parents=True)
            for number in range(count):
                stream = Stream("mask folder example", part, number)
                pixels, mask = (stream.uniform(16, 20, 3) * 100).astype(np.uint8), np.zeros((16, 20), dtype=np.uint8)
                top, left = (2 + int(6 * draw) for draw in stream.uniform(2))
                pixels[top : top + 6, left : left + 6] += 120
                mask[top : top + 6, left : left + 6] = 1 + number % 2
                mask[0] = 255
                picture = Image.fromarray(mask)
                if number % 2:
                    picture.putpalette([value for color in range(256) for value in (color, 255 - color, 0)])
                Image.fromarray(pixels).save(folder / part / "images" / f"{number:03}.png")
                picture.save(folder / part / "masks" / f"{number:03}.png")
        (folder / "classes.txt").write_text("background\nsmall\nlarge\n")
        return {"root": str(folder), "size": 16}
