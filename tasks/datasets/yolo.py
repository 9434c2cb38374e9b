"""Segmentation polygons in the text format of YOLO."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.images.cache import image_files
from noisybench.data.images.decoding import IMAGE_SUFFIXES
from noisybench.data.masks.drawing import DrawnObjects, Outline, check_polygon
from noisybench.data.masks.pairs import name_files
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

    `data.yaml` names the classes and the folders of images of each split (`train`, `val`, `test`), with `images` replaced
    by `labels` for the text files; `root/train/images` with `root/train/labels` (Roboflow) is the same. A line has the number
    of a class and the corners of one polygon in shares of width and height. An image without a text file, or with an empty
    one, is background alone. Classes become 1, 2, … in the order of their numbers. Without a `test` entry the test split is
    drawn by `test_fraction`.
    """

    data_file: str = parameter("data.yaml", help="Name of the YAML file in `root`", access="place")

    def data_files(self) -> Mapping[str, Source]:
        """Return the YAML file, and the folders of images and labels."""
        if self.root is None:
            return {}
        root = self._root()
        sources: dict[str, Source] = {"data.yaml": root / self.data_file}
        if (root / self.data_file).is_file():
            for role, images in self._folders(root, self._content(root)).items():
                sources[role] = FileTree(images, IMAGE_SUFFIXES)
                if _label_folder(images).is_dir():
                    sources[f"{role} labels"] = FileTree(_label_folder(images), (".txt",))
        return sources

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Draw all masks once; later runs map the drawn arrays."""
        root = self._root()
        content = self._content(root)
        names = _class_names(content.get("names"), root / self.data_file)
        indices = class_indices(names, f"dataset.root: {root / self.data_file}")
        parts = {role: self._read_part(images, names, indices) for role, images in self._folders(root, content).items()}
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

    def _folders(self, root: Path, content: Mapping[str, Any]) -> dict[Role, Path]:
        """Return the folder of images of each split."""
        folders: dict[Role, Path] = {}
        for role in ROLES:
            value = content.get(SPLIT_KEYS[role])
            if value is None or value == "":
                continue
            if not isinstance(value, str):
                raise UserError(
                    f"dataset.root: {self.data_file}: `{SPLIT_KEYS[role]}` must be one folder, but is {show(value)}"
                )
            folders[role] = _find_folder(root, str(content.get("path") or ""), value, self.data_file)
        for first, second in ((a, b) for a in folders for b in folders if a < b and folders[a] == folders[b]):
            raise UserError(
                f"dataset.root: {self.data_file}: {SPLIT_KEYS[first]} and {SPLIT_KEYS[second]} are both {folders[first]}; an "
                "image may be in one split only"
            )
        return folders

    def _read_part(self, images: Path, names: list[str], indices: Mapping[str, int]) -> MaskedImages:
        """Return the images of one folder with their masks."""
        result, labels = Annotated(), _label_folder(images)
        if not labels.is_dir():
            raise UserError(
                f"dataset.root: {labels} is missing; it should contain a text file for each image in {images}"
            )
        texts = name_files(list_files(labels, (".txt",)), labels, "dataset.root")
        missing = []
        for name, image in name_files(image_files(images), images, "dataset.root").items():
            text = texts.pop(name, None)
            outlines: tuple[Outline, ...] = ()
            problem = ""
            if text is None:
                missing.append(name)
            else:
                try:
                    outlines = _read_lines(text, names, indices)
                except UserError as error:
                    problem = str(error)
            drawn = DrawnObjects(
                str(text or image), image, None, outlines, self.overlap, normalized=True, problem=problem
            )
            result.add(name, drawn)
        if not result.examples:
            raise UserError(f"dataset.root: {images} contains no images")
        texts.pop("classes", None)
        return result.finish(
            *reading_note("image_without_labels", "Images without a text file are background alone", missing),
            *reading_note("mask_without_image", "Text files without an image were not read", texts),
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
        content = yaml.safe_load(read_text(path, "dataset.root").removeprefix("\ufeff"))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"dataset.root: {path} is not YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(content, dict):
        raise UserError(
            f"dataset.root: {path} must be a mapping with names, train, val and test, but is {show(content)}"
        )
    return content


def _find_folder(root: Path, base: str, value: str, data_file: str) -> Path:
    """Return the folder of images that a YAML file names, on this machine or on the one where it was written."""
    candidates = [Path(base) / value, Path(value)]
    # Roboflow writes ../train/images for a folder beside the YAML file.
    candidates.append(Path(*[part for part in PurePosixPath(value).parts if part not in ("..", ".", "/")]))
    for candidate in candidates:
        folder = root / candidate
        if folder.is_dir() and root.resolve() in (folder.resolve(), *folder.resolve().parents):
            return folder
    # A split that is named but absent must not silently be replaced by a draw.
    raise UserError(
        f"dataset.root: {data_file} names the folder {show(value)}, which is not in {root}; correct its entry"
    )


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
    if isinstance(names, dict) and all(type(number) is int for number in names):
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
    for number, line in enumerate(read_text(path).removeprefix("\ufeff").splitlines(), 1):
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
