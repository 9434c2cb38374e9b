"""Folders of images and masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.images.cache import image_files
from noisybench.data.images.decoding import IMAGE_SUFFIXES
from noisybench.data.images.unread_files import data_files_below, unread_files
from noisybench.data.masks.color_tables import COLOR_FILES, find_color_file, parse_color, read_color_file
from noisybench.data.masks.masks import MaskedImage
from noisybench.data.masks.meaning import check_declared, count_classes, describe_unlabeled
from noisybench.data.masks.pairs import NameLists, match_masks, name_files, read_names
from noisybench.data.masks.scan import scan_masks
from noisybench.data.masks.values import MASK_SUFFIXES, MaskValues
from noisybench.data.notes import ReadingNote, reading_note
from noisybench.data.splits.names import NamedSplits, Role, find_splits
from noisybench.errors import UserError
from noisybench.tasks.datasets._masks import MaskedImages, MaskSource
from noisybench.utils.file_listing import FileTree, Source
from noisybench.utils.places import expand_user
from noisybench.utils.seeds import Stream

FOLDERS = ("images", "masks", "noisy_masks", "instances")
CLASS_LIST = "classes.txt"


@dataclass(frozen=True)
class _Layout:
    """Folders of one split, or of all.

    Attributes:
        folders: folders of the images, masks, noisy masks and instance masks; the last two may be missing.
        lists: list of names of each split, if lists decide the splits.
    """

    folders: tuple[Path, Path, Path, Path]
    lists: Mapping[Role, Path] = field(default_factory=dict)


class ImageMaskFolder(MaskSource):
    """Images and masks with the same paths: `root/images/a/NAME.jpg` with `root/masks/a/NAME.png`, or `root/train/images/…`.

    Splits are folders (`train`, `val`, `test` in any usual spelling, with `images` and `masks` in each, or within both), or
    lists of names (`train.txt`, `val.txt`, `test.txt`), or drawn by `test_fraction`; `val` is optional. A mask has one value
    per pixel, which is the class: 0 for the background and 255 for no label. `values` declares other values, and `colors` (or
    a file `colors.txt`, `label_colors.txt`, `class_dict.csv` or `labelmap.txt` in `root`) the classes of color masks; values
    without a class are refused. A folder `noisy_masks` beside `masks` contains noisy labels for noise=real_world, and a
    folder `instances` the number of the object of each pixel (0: none), on which noise models of objects act. Class names are
    the lines of `classes.txt`.
    """

    license = License("not applicable", access="own files")
    own_files = True
    root: Path | None = parameter(None, help="Folder with the images and masks")
    values: dict[int, int] | None = parameter(
        None, help="Class of each mask value, such as {0: 0, 255: 1} (255: no label); other values are refused"
    )
    colors: dict[str, int] | None = parameter(
        None,
        help='Class of each color of color masks, such as {"0,0,0": 0, "128,0,0": 1} (255: no label)',
        access="value",
    )
    value_tolerance: int = parameter(
        0,
        ge=0,
        le=127,
        help="Largest difference at which a mask value counts as the nearest declared one, for masks that were JPEG files",
    )
    mask_suffix: str = parameter(
        "", help="Suffix of mask names that image names do not have, such as _segmentation", access="place"
    )

    def data_files(self) -> Mapping[str, Source]:
        """Return the images, masks and lists; other files in `root` do not count."""
        if self.root is None:
            return {}
        root = expand_user(self.root)
        sources: dict[str, Source] = {}
        for layout in self._layouts(root).values() if root.is_dir() else ():
            for folder, suffixes in zip(layout.folders, (IMAGE_SUFFIXES, *[MASK_SUFFIXES] * 3), strict=True):
                if folder.is_dir():
                    sources[folder.relative_to(root).as_posix()] = FileTree(folder, suffixes)
            sources.update({path.name: path for path in layout.lists.values()})
        sources.update({name: root / name for name in (CLASS_LIST, *COLOR_FILES) if (root / name).is_file()})
        return sources or {"root": root}

    @property
    def mask_name_suffix(self) -> str:
        """End of the names of masks that the names of images do not have."""
        return self.mask_suffix

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Decode all pairs once; later runs map the decoded arrays."""
        if self.root is None:
            raise UserError(
                "dataset.root: set the folder that contains images and masks, e.g. dataset.root=photographs"
            )
        root = expand_user(self.root)
        if not root.is_dir():
            raise UserError(f"dataset.root: {root}: folder not found")
        parts: dict[Role, MaskedImages] = {}
        for role, layout in self._layouts(root).items():
            parts.update(self._find_pairs(role, layout))
        if not parts.get("train", MaskedImages((), ())).files:
            raise UserError(
                f"dataset.root: {root} has no training images; expected images/ and masks/, or train/images/"
            )
        values, names, notes = self._meaning(root, parts)
        if self.value_tolerance and not values.declared:
            MaskValues(tolerance=self.value_tolerance)  # refuses it
        train, test, names = self.read_splits(parts, names, values)
        return replace(train, notes=train.notes + notes), test, names

    def _layouts(self, root: Path) -> dict[Role, _Layout]:
        """Return the folders by split; those under `train` alone if lists or a draw decide the splits.

        Raises:
            UserError: the folders name splits in two ways.
        """
        location = f"dataset.root: {root}"
        folders = [path.name for path in root.iterdir() if (path / FOLDERS[0]).is_dir()]
        splits = find_splits(folders, location)
        if splits and (root / FOLDERS[0]).is_dir():
            other = next(iter(splits.names.values()))[0]
            raise UserError(f"{location} contains both images/ and {other}/images/; move one of them elsewhere")
        lists = find_splits(
            (path.stem for path in root.glob("*.txt") if path.name not in (CLASS_LIST, *COLOR_FILES)), location
        )
        if splits:
            self._check_unambiguous(location, splits.others, lists)
            return {role: _layout(root / name) for role, (name, *_) in splits.names.items()}
        images = root / FOLDERS[0]
        inner = (
            find_splits((path.name for path in images.iterdir() if path.is_dir()), location)
            if images.is_dir()
            else None
        )
        if inner and not inner.others and not any(path.suffix.lower() in IMAGE_SUFFIXES for path in images.iterdir()):
            self._check_unambiguous(location, (), lists)
            return {
                role: _Layout(
                    (images / name, root / "masks" / name, root / "noisy_masks" / name, root / "instances" / name)
                )
                for role, (name, *_) in inner.names.items()
            }
        files: dict[Role, Path] = {role: root / f"{name}.txt" for role, (name, *_) in lists.names.items()}
        return {"train": replace(_layout(root), lists=files)}

    @staticmethod
    def _check_unambiguous(location: str, others: Sequence[str], lists: NamedSplits) -> None:
        """Refuse folders and lists that would be ignored beside folders of splits."""
        if others:
            raise UserError(
                f"{location} contains images in {', '.join(others)} beside the folders of splits; move or rename them"
            )
        if lists:
            name = next(iter(lists.names.values()))[0]
            raise UserError(f"{location} has folders of splits and the list {name}.txt; remove one of them")

    def _find_pairs(self, role: Role, layout: _Layout) -> dict[Role, MaskedImages]:
        """Return the examples of each split of a layout."""
        images, masks, noisy_masks, instances = layout.folders
        missing = [path for path in (images, masks) if not path.is_dir()]
        if missing:
            parent = missing[0].parent
            found = (
                ", ".join(sorted(path.name for path in parent.iterdir() if path.is_dir())[:8])
                if parent.is_dir()
                else ""
            )
            raise UserError(
                f"dataset.root: {missing[0]} is missing; expected the folders images and masks, found {found or 'none'}; rename "
                "the folders"
            )
        by_name = name_files(image_files(images), images, "dataset.root")
        folders = [masks, noisy_masks] if noisy_masks.is_dir() else [masks]
        numbered = instances.is_dir()
        folders += [instances] if numbered else []
        names = list(by_name)
        matched = [match_masks(names, folder, self.mask_suffix, "dataset.root") for folder in folders]
        rows: dict[str, MaskedImage] = {}
        numbers: dict[str, Path] = {}
        for row, name in enumerate(names):
            # A missing mask is reported when the pairs are read, with the treatment that `on_error` names.
            expected = f"{name}{self.mask_suffix}.png"
            mask, *others = [
                match.files[row] or folder / expected for folder, match in zip(folders, matched, strict=True)
            ]
            if numbered:
                numbers[name] = others.pop()
            rows[name] = (by_name[name], mask, *others)
        unused = [file.name for match in matched for file in match.unused]
        notes = reading_note("mask_without_image", "Masks without an image were not read", unused)
        for folder, suffixes in ((images, IMAGE_SUFFIXES), *((folder, MASK_SUFFIXES) for folder in folders)):
            unread = (file for file in data_files_below(folder) if file.suffix.lower() not in suffixes)
            notes += unread_files(unread, folder.parent)
        if not layout.lists:
            return {role: MaskedImages(list(rows.values()), names, notes, list(numbers.values()))}
        lists = NameLists(names, images)
        chosen = {part: lists.resolve(read_names(path), path.name) for part, path in layout.lists.items()}
        notes += reading_note("unlisted_image", "Images on none of the lists were not read", lists.unlisted())
        return {
            part: MaskedImages(
                [rows[name] for name in listed],
                listed,
                notes if part == "train" else (),
                [numbers[name] for name in listed] if numbered else (),
            )
            for part, listed in chosen.items()
        }

    def _meaning(
        self, root: Path, parts: Mapping[Role, MaskedImages]
    ) -> tuple[MaskValues, tuple[str, ...], tuple[ReadingNote, ...]]:
        """Return the class of each value, and the class names."""
        listed = root / CLASS_LIST
        names = tuple(read_names(listed, "dataset.root")) if listed.is_file() else ()
        values, notes = self._declared_values(), tuple[ReadingNote, ...]()
        masks = [
            file for part in parts.values() for _, *inputs in part.files for file in inputs if isinstance(file, Path)
        ]
        masks = [file for file in masks if file.is_file()]
        scan = scan_masks(masks, as_colors=values.colors is not None)
        table_file = find_color_file(root)
        if not values.declared and table_file is not None and not scan.mixed:
            table, in_colors = read_color_file(table_file), scan_masks(masks, as_colors=True)
            # The indices of a palette may have another order than the table.
            if scan.colors or set(in_colors.counts) <= set(table.classes):
                values = MaskValues(colors=table.classes, tolerance=self.value_tolerance)
                names, scan = names or table.names, in_colors
                text = f"The classes of colors were read from {table_file.name}"
                if table.unlabeled:
                    text += f"; pixels with the color of {', '.join(table.unlabeled)} have no label"
                notes = (ReadingNote("color_table", text, scan.files),)
            else:
                text = f"Masks contain class indices instead of the colors of {table_file.name}, which was not used"
                notes = (ReadingNote("unused_color_table", text, scan.files),)
        if scan.lossy and values.tolerance:
            text = f"Values of JPEG masks within {values.tolerance} of a declared one were read as it"
            notes += reading_note("value_tolerance", text, scan.lossy)
        count = count_classes(scan, values, len(names) or None, self.on_error == "skip")
        if self.on_error == "raise":
            check_declared(scan, values, count)
        notes += describe_unlabeled(scan, values)
        first = "background" if self.has_background else "class 0"
        return values, names or (first, *(f"class {index}" for index in range(1, count))), notes

    def _declared_values(self) -> MaskValues:
        """Return what the parameters declare; the keys of a specification are text."""
        values = None if self.values is None else {int(key): target for key, target in self.values.items()}
        if self.colors is None:
            # Without a table, the tolerance may be meant for that of a file.
            return MaskValues(values, tolerance=self.value_tolerance if values else 0)
        colors = {parse_color(key): target for key, target in self.colors.items()}
        return MaskValues(values, colors, self.value_tolerance)

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


def _layout(folder: Path) -> _Layout:
    images, masks, noisy_masks, instances = (folder / name for name in FOLDERS)
    return _Layout((images, masks, noisy_masks, instances))
