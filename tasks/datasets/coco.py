"""Object annotations in COCO's JSON format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.images.decoding import IMAGE_SUFFIXES
from noisybench.data.masks.drawing import DrawnObjects, Outline, check_polygon, check_shape, parse_runs, read_json
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
from noisybench.utils.file_listing import FileTree, Source

ROBOFLOW = "_annotations.coco.json"


@dataclass(frozen=True)
class _Part:
    """Annotation file of one split, and the folder of its images."""

    annotations: Path
    images: Path


class Coco(DrawnSource):
    """Objects of COCO's JSON files as masks: polygons, and compressed or uncompressed run-length codes (Lin et al. 2014).

    Reads `root/annotations/instances_train2017.json` with `root/train2017/`, `root/train/_annotations.coco.json` beside its
    images (Roboflow), or a single JSON file in `root` or `root/annotations` with the images in `root/images` or `root`.
    Splits are named as usual, and `val` is the validation split; without a test split it is drawn by `test_fraction`.
    Categories become the classes 1, 2, … in the order of their numbers, which need not be contiguous; everything else is
    background. Where objects overlap, `overlap` decides.
    """

    license = License(
        "CC-BY-4.0",
        "https://cocodataset.org/#termsofuse",
        note="of the annotations; images have the terms of Flickr, and files of your own in this format their own license",
    )
    categories: list[str] | None = parameter(
        None, help="Names of the categories to use; objects of others are background (default: all)", access="value"
    )
    crowd: Literal["ignore", "object", "drop"] = parameter(
        "ignore", help="Treatment of regions of many objects (iscrowd): no label, an object like others, or background"
    )

    def data_files(self) -> Mapping[str, Source]:
        """Return the annotations and the folders of images."""
        if self.root is None:
            return {}
        sources: dict[str, Source] = {}
        for role, part in self._parts(self._root()).items():
            sources[f"{role}.json"] = part.annotations
            sources[role] = FileTree(part.images, IMAGE_SUFFIXES)
        return sources

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Draw all masks once; later runs map the drawn arrays."""
        parts = self._parts(self._root())
        if "train" not in parts:
            raise UserError(f"dataset.root: {self.root} has no training annotations, but {', '.join(parts)}")
        indices: dict[str, int] = {}
        splits: dict[Role, MaskedImages] = {}
        for role, part in sorted(parts.items(), key=lambda item: item[0] != "train"):
            content = _check_content(read_json(part.annotations), part.annotations)
            names = _category_names(content["categories"], part.annotations)
            indices = indices or self._classes(names, part.annotations)
            splits[role] = self._read_part(part, content, names, indices)
        return self.read_splits(splits, names_of(indices))

    def _parts(self, root: Path) -> dict[Role, _Part]:
        """Return the files of each split.

        Raises:
            UserError: there are none, or their names do not say which is for training.
        """
        location = f"dataset.root: {root}"
        folders = [path.name for path in root.iterdir() if (path / ROBOFLOW).is_file()]
        if folders:
            named = find_splits(folders, location)
            if not named or named.others:
                raise UserError(
                    f"{location} has annotations in {', '.join(folders)}; name the folders train, valid and test"
                )
            return {role: _Part(root / name / ROBOFLOW, root / name) for role, (name, *_) in named.names.items()}
        folder = root / "annotations" if (root / "annotations").is_dir() else root
        files = sorted(path for path in folder.glob("*.json") if path.name[0] != ".")
        instances = [path for path in files if path.stem.startswith("instances")]
        files = instances or files
        if not files:
            raise UserError(f"{location} contains neither annotations/*.json nor train/{ROBOFLOW}")
        by_name = {path.stem.removeprefix("instances_"): path for path in files}
        named = find_splits(by_name, location)
        if named.others and (len(files) > 1 or named):
            raise UserError(
                f"{location} has the annotations {', '.join(path.name for path in files)}; name them after their splits, such as "
                "instances_train.json, or keep one file"
            )
        chosen: dict[Role, str] = {role: name for role, (name, *_) in named.names.items()} or {
            "train": next(iter(by_name))
        }
        return {role: _Part(by_name[name], _image_folder(root, name)) for role, name in chosen.items()}

    def _classes(self, names: Mapping[int, str], path: Path) -> dict[str, int]:
        """Return the class of each category that is used."""
        location = f"dataset.root: {path}"
        if self.categories is None:
            return class_indices(names.values(), location)
        for name in self.categories:
            if name not in names.values():
                raise UserError(f"dataset.categories: unknown category {show(name)}; {nearest(name, names.values())}")
        return class_indices(self.categories, "dataset.categories")

    def _read_part(
        self, part: _Part, content: Mapping[str, Any], names: Mapping[int, str], indices: Mapping[str, int]
    ) -> MaskedImages:
        """Return the images of one annotation file with their masks."""
        result, location = Annotated(), f"dataset.root: {part.annotations.name}"
        unknown = sorted(set(names.values()) - set(indices)) if self.categories is None else []
        if unknown:
            raise UserError(
                f"{location}: has the category {show(unknown[0])}, which the training annotations do not have"
            )
        images = _images_by_id(content["images"], location)
        outlines: dict[Any, list[Outline]] = {identifier: [] for identifier in images}
        problems: dict[Any, str] = {}
        unused: set[str] = set()
        for row, annotation in enumerate(content["annotations"]):
            number = annotation.get("id", row) if isinstance(annotation, dict) else row
            image = _known(annotation, "image_id", images, f"{location}, annotation {show(number)}")
            category = names[_known(annotation, "category_id", names, f"{location}, annotation {show(number)}")]
            target = self._target(annotation, indices.get(category))
            if target is None:
                if category not in indices:
                    unused.add(category)
                continue
            try:
                outlines[image].append(_outline(annotation, target, images[image][1]))
            except UserError as error:
                problems.setdefault(image, f"annotation {show(number)}: {error}")
        for identifier, (file_name, shape) in images.items():
            drawn = DrawnObjects(
                f"{location}, image {file_name}",
                part.images / file_name,
                shape,
                tuple(outlines[identifier]),
                self.overlap,
                problem=problems.get(identifier, ""),
            )
            result.add(PurePosixPath(file_name).with_suffix("").as_posix(), drawn)
        text = "Objects of categories that dataset.categories does not name are background"
        return result.finish(*reading_note("unused_category", text, sorted(unused)))

    def _target(self, annotation: Mapping[str, Any], target: int | None) -> int | None:
        """Return the class of an object; None if it is background."""
        if annotation.get("iscrowd") and self.crowd != "object" and target is not None:
            return IGNORED if self.crowd == "ignore" else None
        return target

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write squares of two categories as polygons and run-length codes in COCO's layout."""
        for part, count in (("train", 24), ("val", 6), ("test", 6)):
            images, annotations = [], []
            for number in range(count):
                pixels, corners = draw_example(number, part)
                name = f"{number:03}.png"
                save_image(folder / part / name, pixels)
                images.append({"id": 7 * number + 1, "file_name": name, "width": 20, "height": 16})
                left, top = int(corners[0]), int(corners[1])
                runs = [16 * left + top, *[6, 10] * 5, 6]
                runs.append(16 * 20 - sum(runs))
                shape = {"size": [16, 20], "counts": runs} if number % 3 == 0 else [corners]
                entry = {
                    "id": number,
                    "image_id": 7 * number + 1,
                    "category_id": (3, 90)[number % 2],
                    "segmentation": shape,
                }
                annotations.append({**entry, "iscrowd": 0})
            categories = [{"id": 90, "name": "large"}, {"id": 3, "name": "small"}]
            (folder / "annotations").mkdir(exist_ok=True)
            content = {"images": images, "annotations": annotations, "categories": categories}
            (folder / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
        return {"root": str(folder), "size": 16}


def _image_folder(root: Path, name: str) -> Path:
    """Return the folder of the images of one annotation file."""
    candidates = (root / name, root / "images" / name, root / "images")
    return next((folder for folder in candidates if folder.is_dir()), root)


def _check_content(content: Any, path: Path) -> Mapping[str, Any]:
    """Return the content of an annotation file if it has the parts of COCO's format."""
    for field in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(field), list):
            raise UserError(f"dataset.root: {path} is not in COCO's format: the list `{field}` is missing")
    result: Mapping[str, Any] = content
    return result


def _category_names(categories: list[Any], path: Path) -> dict[int, str]:
    """Return the names of categories in the order of their numbers."""
    location, names = f"dataset.root: {path}", dict[int, str]()
    if len(categories) > IGNORED:
        raise UserError(f"{location}: declares {len(categories)} categories, but masks can hold 254 and the background")
    for category in categories:
        number, name = (category.get("id"), category.get("name")) if isinstance(category, dict) else (None, None)
        if type(number) is not int or not isinstance(name, str) or not name:
            raise UserError(f"{location}: a category needs an integer `id` and a `name`, but is {show(category)}")
        if number in names:
            raise UserError(f"{location}: the category number {number} occurs twice; correct one of them")
        names[number] = name
    return dict(sorted(names.items()))


def _images_by_id(images: list[Any], location: str) -> dict[Any, tuple[str, tuple[int, int]]]:
    """Return name and shape of each image."""
    result: dict[Any, tuple[str, tuple[int, int]]] = {}
    seen: dict[str, Any] = {}
    for row, image in enumerate(images):
        identifier, name = (image.get("id"), image.get("file_name")) if isinstance(image, dict) else (None, None)
        if type(identifier) not in (int, str) or not isinstance(name, str) or not name:
            raise UserError(f"{location}, image {row}: needs an `id` and a `file_name`, but is {show(image)}")
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or "\0" in name:
            raise UserError(
                f"{location}, image {row}: {show(name)} lies outside of the folder of images; use relative names"
            )
        stem = path.with_suffix("").as_posix()
        if identifier in result:
            raise UserError(
                f"{location}: the image id {show(identifier)} occurs twice, the second time for {show(name)}"
            )
        if stem in seen:
            raise UserError(
                f"{location}: the image name {show(name)} occurs twice, with the ids {seen[stem]} and {identifier}"
            )
        seen[stem] = identifier
        try:
            result[identifier] = (path.as_posix(), check_shape(image.get("height"), image.get("width")))
        except UserError as error:
            raise UserError(f"{location}, image {show(name)}: {error}") from None
    return result


def _known(annotation: Any, field: str, known: Mapping[Any, Any], origin: str) -> Any:
    """Return the number of an image or a category that an annotation names."""
    if not isinstance(annotation, dict):
        raise UserError(f"{origin}: is {show(annotation)} instead of an object")
    value = annotation.get(field)
    value = int(value) if isinstance(value, float) and value.is_integer() else value
    if type(value) not in (int, str) or value not in known:
        raise UserError(
            f"{origin}: has the {field} {show(value)}, which is not in the file; export the annotations again"
        )
    return value


def _outline(annotation: Mapping[str, Any], target: int, shape: tuple[int, int]) -> Outline:
    """Return the region of an annotation."""
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, list) and segmentation:
        return Outline(target, tuple(check_polygon(polygon) for polygon in segmentation))
    if not isinstance(segmentation, dict):
        raise UserError("has no segmentation, only a box perhaps; export polygons or masks, or remove the annotation")
    if segmentation.get("size") != list(shape):
        raise UserError(
            f"its run lengths are for {show(segmentation.get('size'))} (height, width), but its image has {list(shape)}"
        )
    counts = segmentation.get("counts")
    if isinstance(counts, str):
        return Outline(target, counts=parse_runs(counts))
    if isinstance(counts, list) and all(type(count) is int for count in counts):
        return Outline(target, counts=tuple(counts))
    raise UserError(f"its run lengths are {show(counts)} instead of text or a list of integers")
