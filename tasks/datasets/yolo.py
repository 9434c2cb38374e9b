"""Segmentation polygons in the text format of YOLO."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.images.cache import image_files
from noisybench.data.images.decoding import IMAGE_SUFFIXES
from noisybench.data.masks.drawing import DrawnObjects, Outline, check_polygon
from noisybench.data.masks.pairs import name_files, read_names
from noisybench.data.notes import reading_note
from noisybench.data.splits.names import ROLES, Role
from noisybench.errors import UserError, show
from noisybench.tasks.datasets._annotations import (
    Annotated,
    DrawnSource,
    class_indices,
    draw_example,
    names_of,
    save_image,
)
from noisybench.tasks.datasets._masks import MaskedImages
from noisybench.utils.file_listing import FileTree, Source, list_files
from noisybench.utils.places import read_text

SPLIT_KEYS: Mapping[Role, str] = {"train": "train", "validation": "val", "test": "test"}


class Yolo(DrawnSource):
    """Polygons in YOLO's text files as masks: `root/data.yaml`, `root/images/train/NAME.jpg`, `root/labels/train/NAME.txt`.

    `data.yaml` names the classes and the folders of images of each split (`train`, `val`, `test`), or lists of their paths
    (`train.txt`), with `images` replaced by `labels` for the text files; `root/train/images` with `root/train/labels`
    (Roboflow) is the same. A line has the number of a class and the corners of one polygon in shares of width and height. An
    image without a text file, or with an empty one, is background alone. Classes become 1, 2, … in the order of their
    numbers. Without a `test` entry the test split is drawn by `test_fraction`.
    """

    license = License("not applicable", access="own files")
    data_file: str = parameter("data.yaml", help="Name of the YAML file in `root`", access="place")

    def data_files(self) -> Mapping[str, Source]:
        """Return the YAML file, and the folders of images and labels."""
        if self.root is None:
            return {}
        root = self._root()
        sources: dict[str, Source] = {"data.yaml": root / self.data_file}
        if (root / self.data_file).is_file():
            for role, places in self._places(root, self._content(root)).items():
                for number, place in enumerate(places):
                    key = f"{role} {number}" if number else role
                    if place.is_file():
                        # A list may name images anywhere in `root`.
                        sources[f"{key} list"], place = place, root
                    sources[key] = FileTree(place, IMAGE_SUFFIXES)
                    if (labels := root if place == root else _label_folder(place)).is_dir():
                        sources[f"{key} labels"] = FileTree(labels, (".txt",))
        return sources

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Draw all masks once; later runs map the drawn arrays."""
        root = self._root()
        content = self._content(root)
        names = _class_names(content.get("names"), root / self.data_file)
        indices = class_indices(names, f"dataset.root: {root / self.data_file}")
        parts = {
            role: self._read_part(root, places, names, indices) for role, places in self._places(root, content).items()
        }
        used: dict[Path, Role] = {}
        for role, part in parts.items():
            for image, *_ in part.files:
                if (other := used.setdefault(image, role)) != role:
                    raise UserError(
                        f"dataset.root: {self.data_file}: {image} is in {SPLIT_KEYS[other]} and in {SPLIT_KEYS[role]}; an image "
                        "may be in one split only"
                    )
        if "train" not in parts:
            raise UserError(f"dataset.root: {root / self.data_file} names no training images (`train`)")
        return self.read_splits(parts, names_of(indices))

    def _content(self, root: Path) -> Mapping[str, Any]:
        path = root / self.data_file
        if not path.is_file():
            raise UserError(
                f"dataset.root: {path} is missing; it names the classes (`names`) and the folders of images"
            )
        return _load(path)

    def _places(self, root: Path, content: Mapping[str, Any]) -> dict[Role, list[Path]]:
        """Return the folders of images, or the lists of their paths, of each split."""
        places: dict[Role, list[Path]] = {}
        for role in ROLES:
            value = content.get(SPLIT_KEYS[role])
            if value is None or value == "":
                continue
            values = value if isinstance(value, list) else [value]
            if not values or not all(isinstance(part, str) and part for part in values):
                raise UserError(
                    f"dataset.root: {self.data_file}: `{SPLIT_KEYS[role]}` must be a folder, a list of image paths "
                    f"(.txt), or several of them, but is {show(value)}"
                )
            places[role] = [_find_place(root, str(content.get("path") or ""), part, self.data_file) for part in values]
        return places

    def _read_part(self, root: Path, places: list[Path], names: list[str], indices: Mapping[str, int]) -> MaskedImages:
        """Return the images of one split with their masks."""
        result, missing, left = Annotated(), [], set[Path]()
        base = places[0] if len(places) == 1 and places[0].is_dir() else root
        images: list[Path] = []
        for place in places:
            if place.is_file():
                images += _listed_images(root, place)
                continue
            labels = _label_folder(place)
            if not labels.is_dir():
                raise UserError(
                    f"dataset.root: {labels} is missing; it should contain a text file for each image in {place}"
                )
            images += image_files(place)
            texts = name_files(list_files(labels, (".txt",)), labels, "dataset.root")
            left |= {text for name, text in texts.items() if name != "classes"}
        for name, image in name_files(images, base, "dataset.root").items():
            place = next((place for place in places if image.is_relative_to(place)), image.parent)
            expected = _label_folder(place) / image.relative_to(place).with_suffix(".txt")
            text = expected if expected.is_file() else None
            outlines: tuple[Outline, ...] = ()
            problem = ""
            if text is None:
                missing.append(name)
            else:
                left.discard(text)
                try:
                    outlines = _read_lines(text, names, indices)
                except UserError as error:
                    problem = str(error)
            drawn = DrawnObjects(
                str(text or image), image, None, outlines, self.overlap, normalized=True, problem=problem
            )
            result.add(name, drawn)
        if not result.examples:
            raise UserError(f"dataset.root: {', '.join(map(str, places))} contains no images")
        unread = sorted(text.relative_to(root).as_posix() for text in left)
        return result.finish(
            *reading_note("image_without_labels", "Images without a text file are background alone", missing),
            *reading_note("mask_without_image", "Text files without an image were not read", unread),
        )

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write squares of two classes in YOLO's layout."""
        for part, count in (("train", 24), ("val", 6), ("test", 6)):
            (folder / "labels" / part).mkdir(parents=True)
            for number in range(count):
                pixels, corners = draw_example(number, part)
                save_image(folder / "images" / part / f"{number:03}.png", pixels)
                shares = " ".join(f"{value / (20, 16)[index % 2]:.6f}" for index, value in enumerate(corners))
                (folder / "labels" / part / f"{number:03}.txt").write_text(f"{number % 2} {shares}\n")
        splits = "".join(f"{part}: images/{part}\n" for part in ("train", "val", "test"))
        (folder / "data.yaml").write_text(f"path: .\n{splits}names:\n  0: small\n  1: large\n")
        return {"root": str(folder), "size": 16}


def _load(path: Path) -> Mapping[str, Any]:
    """Return the content of a YAML file of any fields."""
    import yaml

    try:
        content = yaml.safe_load(read_text(path, "dataset.root"))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"dataset.root: {path} is not YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(content, dict):
        raise UserError(
            f"dataset.root: {path} must be a mapping with names, train, val and test, but is {show(content)}"
        )
    return content


def _find_place(root: Path, base: str, value: str, data_file: str) -> Path:
    """Return the folder or list of images that a YAML file names, on this machine or on the one where it was written."""
    candidates = [Path(base) / value, Path(value)]
    # Roboflow writes ../train/images for a folder beside the YAML file.
    candidates.append(Path(*[part for part in PurePosixPath(value).parts if part not in ("..", ".", "/")]))
    for candidate in candidates:
        place = root / candidate
        is_place = place.is_dir() or (place.suffix == ".txt" and place.is_file())
        if is_place and root.resolve() in (place.resolve(), *place.resolve().parents):
            return place
    # A split that is named but absent must not silently be replaced by a draw.
    raise UserError(
        f"dataset.root: {data_file} names {show(value)}, which is neither a folder nor a list of images (.txt) in {root}; "
        "correct its entry"
    )


def _listed_images(root: Path, path: Path) -> list[Path]:
    """Return the images that a list names, relative to `root` or on the machine where it was written.

    Raises:
        UserError: an image is missing.
    """
    found = []
    for line in read_names(path, "dataset.root"):
        parts = [part for part in PureWindowsPath(line).parts if part not in (".", "..", "/", "\\")]
        # The longest end of the path that is an image here; the beginning belongs to another machine.
        ends = (root.joinpath(*parts[start:]) for start in range(len(parts)))
        image = next((end for end in ends if end.suffix.lower() in IMAGE_SUFFIXES and end.is_file()), None)
        if image is None:
            raise UserError(f"dataset.root: {path} names {show(line)}, which is no image in {root}; correct the line")
        found.append(image)
    return found


def _label_folder(images: Path) -> Path:
    """Return the folder of text files beside a folder of images: the last `images` in its path becomes `labels`."""
    parts = list(images.parts)
    for position in range(len(parts) - 1, -1, -1):
        if parts[position] == "images":
            parts[position] = "labels"
            return Path(*parts)
    return images


def _class_names(names: Any, path: Path) -> list[str]:
    """Return the names of classes by their numbers."""
    if isinstance(names, dict) and all(re.fullmatch(r"\d{1,3}", str(number), re.ASCII) for number in names):
        names = {int(number): name for number, name in names.items()}
        if sorted(names) != list(range(len(names))):
            raise UserError(
                f"dataset.root: {path}: the numbers of `names` must be 0, 1, 2, …, but are {sorted(names)[:8]}"
            )
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str | int) for name in names):
        raise UserError(f"dataset.root: {path}: `names` must list the names of the classes, but is {show(names)}")
    return [str(name) for name in names]


def _read_lines(path: Path, names: list[str], indices: Mapping[str, int]) -> tuple[Outline, ...]:
    """Return the objects of one text file."""
    outlines = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if not words[0].isascii() or not words[0].isdigit() or int(words[0]) >= len(names):
            raise UserError(
                f"line {number}: the class must be a number from 0 to {len(names) - 1}, but is {show(words[0])}"
            )
        if len(words) == 5:
            raise UserError(
                f"line {number}: has a box instead of a polygon; use a segmentation export of the annotations"
            )
        try:
            polygon = check_polygon([float(word) for word in words[1:]])
        except ValueError:
            raise UserError(f"line {number}: has a coordinate that is not a number") from None
        except UserError as error:
            raise UserError(f"line {number}: {error}") from None
        if max(map(abs, polygon)) > 2:
            raise UserError(
                f"line {number}: has the coordinate {max(polygon, key=abs):g}, but coordinates are shares of the sides from 0 "
                "to 1"
            )
        outlines.append(Outline(indices[names[int(words[0])]], (polygon,)))
    return tuple(outlines)
