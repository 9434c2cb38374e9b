"""Polygons drawn with LabelMe."""

from __future__ import annotations

import base64
import io
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.images.cache import image_files
from noisybench.data.images.decoding import IMAGE_SUFFIXES
from noisybench.data.masks.drawing import (
    DrawnObjects,
    Outline,
    check_polygon,
    check_shape,
    encode_runs,
    read_json,
    shown_shape,
)
from noisybench.data.masks.pairs import example_name, name_files, read_names
from noisybench.data.notes import reading_note
from noisybench.data.splits.names import Role, find_splits
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError, nearest, show
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
from noisybench.utils.files import first_line

IGNORE = "__ignore__"
"""LabelMe's label of regions without a class."""

CIRCLE_CORNERS = 90


class Labelme(DrawnSource):
    """Polygons, rectangles, circles and masks of LabelMe as masks: `root/NAME.json` beside `root/NAME.jpg`, or `root/train/…`.

    Splits are folders (`train`, `val`, `test` in any usual spelling), or drawn by `test_fraction`. Class names are the
    lines of `labels.txt` in `root`, or else the labels that occur, sorted; they become 1, 2, …, `_background_` is 0, and
    regions with the label `__ignore__` have no label. Images without a JSON file are not read.
    """

    license = License("not applicable", access="own files")
    label_list: str = parameter("labels.txt", help="Name of the file with the class names in `root`", access="place")

    def data_files(self) -> Mapping[str, Source]:
        """Return the JSON files, the images and the list of classes."""
        if self.root is None:
            return {}
        root = self._root()
        sources: dict[str, Source] = {
            f"{role}": FileTree(folder, (".json", *IMAGE_SUFFIXES)) for role, folder in _folders(root).items()
        }
        return {**sources, **({self.label_list: root / self.label_list} if (root / self.label_list).is_file() else {})}

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Draw all masks once; later runs map the drawn arrays."""
        root = self._root()
        contents: dict[Role, dict[Path, Any]] = {
            role: {file: read_json(file) for file in list_files(folder, (".json",))}
            for role, folder in _folders(root).items()
        }
        listed = root / self.label_list
        if listed.is_file():
            names = read_names(listed, "dataset.root")
        else:
            shapes = (shape for files in contents.values() for content in files.values() for shape in _shapes(content))
            labels = [shape.get("label") for shape in shapes if isinstance(shape, dict)]
            names = sorted({label for label in labels if isinstance(label, str)})
        location = f"dataset.root: {listed if listed.is_file() else root}"
        indices = class_indices([name for name in names if name != IGNORE], location)
        parts = {role: self._read_part(folder, contents[role], indices) for role, folder in _folders(root).items()}
        return self.read_splits(parts, names_of(indices))

    def _read_part(self, folder: Path, contents: Mapping[Path, Any], indices: Mapping[str, int]) -> MaskedImages:
        """Return the annotated images of one folder with their masks."""
        result = Annotated()
        images = name_files(image_files(folder), folder, "dataset.root")
        left, used = dict(images), set[Path]()
        for file, content in contents.items():
            name = example_name(file, folder)
            image = left.pop(name, None) or _named_image(file, content, folder)
            if image in used:
                raise UserError(f"dataset.root: {file} and another file annotate the image {image}; remove one of them")
            try:
                shapes, size = _shapes(content, required=True), (content.get("imageHeight"), content.get("imageWidth"))
                # Early versions of LabelMe did not store the size.
                shape = shown_shape(image) if size == (None, None) else check_shape(*size)
                outlines = tuple(_outline(each, indices, shape) for each in shapes)
                drawn = DrawnObjects(str(file), image, shape, outlines, self.overlap)
            except UserError as error:
                drawn = DrawnObjects(str(file), image, None, (), self.overlap, problem=str(error))
            used.add(image)
            result.add(name, drawn)
        if not result.examples:
            raise UserError(f"dataset.root: {folder} contains no JSON files of LabelMe")
        unread = [name for name, image in left.items() if image not in used]
        return result.finish(*reading_note("image_without_labels", "Images without a JSON file were not read", unread))

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write squares of two labels as LabelMe saves them."""
        for part, count in (("train", 24), ("val", 6), ("test", 6)):
            for number in range(count):
                pixels, corners = draw_example(number, part)
                save_image(folder / part / f"{number:03}.png", pixels)
                points = [[corners[index], corners[index + 1]] for index in range(0, 8, 2)]
                kind = "rectangle" if number % 3 == 0 else "polygon"
                shape = {
                    "label": ("small", "large")[number % 2],
                    "points": points[::2] if kind == "rectangle" else points,
                }
                content: dict[str, Any] = {
                    "version": "5.4.1", "flags": {}, "shapes": [{**shape, "shape_type": kind}], "imagePath": f"{number:03}.png",
                    "imageData": None, "imageHeight": 16, "imageWidth": 20,
                }  # fmt: skip
                (folder / part / f"{number:03}.json").write_text(json.dumps(content))
        return {"root": str(folder), "size": 16}


def _folders(root: Path) -> dict[Role, Path]:
    """Return the folder of each split."""
    named = find_splits((path.name for path in root.iterdir() if path.is_dir()), f"dataset.root: {root}")
    if not named:
        return {"train": root}
    loose = sorted(path.name for path in root.glob("*.json") if path.name[0] != ".")
    if loose:
        raise UserError(
            f"dataset.root: {root} contains both {loose[0]} and folders of splits; move one of them elsewhere"
        )
    return {role: root / name for role, (name, *_) in named.names.items()}


def _named_image(file: Path, content: Any, folder: Path) -> Path:
    """Return the image that a JSON file names, relative to itself; one beside it if that is no file below the folder."""
    name = content.get("imagePath") if isinstance(content, dict) else None
    # A path of Windows has both kinds of separators.
    path = PureWindowsPath(name if isinstance(name, str) and "\0" not in name else f"{file.stem}.jpg")
    named = Path(os.path.normpath(file.parent.joinpath(*path.parts)))
    return named if named.is_relative_to(folder) and named.is_file() else file.parent / path.name


def _shapes(content: Any, required: bool = False) -> list[Any]:
    """Return the shapes of a JSON file."""
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if isinstance(shapes, list):
        return shapes
    if required:
        raise UserError("has no list `shapes`; it is not a file of LabelMe")
    return []


def _embedded_mask(text: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask that a shape contains as a PNG image, as LabelMe's tools for segmentation draw it."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as picture:
            # Before any pixel is decoded.
            if picture.size != size[::-1]:
                raise UserError(
                    f"has a mask of {picture.size[0]}x{picture.size[1]} pixels between corners of {size[1]}x{size[0]}"
                )
            return np.asarray(picture.convert("L")) > 0
    except UserError:
        raise
    except Exception as error:  # decoders raise anything on damaged files
        raise UserError(f"has a mask that is not a PNG image in base64 ({first_line(error)})") from None


def _outline(shape: Any, indices: Mapping[str, int], size: tuple[int, int]) -> Outline:
    """Return the region of one shape in an image of some height and width."""
    if not isinstance(shape, dict):
        raise UserError(f"has a shape that is {show(shape)}")
    label, kind, points = shape.get("label"), shape.get("shape_type") or "polygon", shape.get("points")
    if not isinstance(label, str) or (label != IGNORE and label not in indices):
        raise UserError(f"has the unknown label {show(label)}; {nearest(str(label), indices)}")
    target = IGNORED if label == IGNORE else indices[label]
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise UserError(f"has a shape of {show(label)} whose points are not pairs of numbers")
    values = [value for point in points for value in point]
    if kind == "polygon":
        return Outline(target, (check_polygon(values),))
    if kind not in ("rectangle", "circle", "mask") or len(points) != 2:
        raise UserError(
            f"has a {show(kind)} with the label {show(label)} (points: {len(points)}), but only polygons, rectangles, circles "
            "and masks have an area; remove it or draw a polygon"
        )
    # A third pair, so that the check of polygons covers two points as well.
    x0, y0, x1, y1, *_ = check_polygon([*values, *values[:2]])
    if kind == "mask":
        region = np.zeros(size, dtype=np.bool_)
        left, top, right, lower = (round(value) for value in (x0, y0, x1, y1))
        if not (0 <= left <= right < size[1] and 0 <= top <= lower < size[0]):
            raise UserError(f"has a mask with the label {show(label)} that lies outside of the image")
        region[top : lower + 1, left : right + 1] = _embedded_mask(
            shape.get("mask"), (lower + 1 - top, right + 1 - left)
        )
        return Outline(target, counts=encode_runs(region))
    if kind == "rectangle":
        return Outline(target, ((x0, y0, x1, y0, x1, y1, x0, y1),))
    radius = math.hypot(x1 - x0, y1 - y0)
    angles = [2 * math.pi * number / CIRCLE_CORNERS for number in range(CIRCLE_CORNERS)]
    corners = [part for angle in angles for part in (x0 + radius * math.cos(angle), y0 + radius * math.sin(angle))]
    return Outline(target, (tuple(corners),))
