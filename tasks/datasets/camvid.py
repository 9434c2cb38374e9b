"""CamVid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.images.cache import image_files
from noisybench.data.images.decoding import IMAGE_SUFFIXES
from noisybench.data.masks.color_tables import read_color_file
from noisybench.data.masks.masks import MaskedImage
from noisybench.data.masks.meaning import check_declared
from noisybench.data.masks.pairs import NameLists, match_masks, name_files, read_names
from noisybench.data.masks.scan import scan_masks
from noisybench.data.masks.values import MASK_SUFFIXES, MaskValues
from noisybench.data.notes import reading_note
from noisybench.data.splits.names import Role
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError
from noisybench.tasks.datasets._annotations import draw_example, save_image
from noisybench.tasks.datasets._masks import MaskedImages, MaskSource
from noisybench.utils.file_listing import FileTree, Source
from noisybench.utils.places import expand_user

SEGNET_NAMES = (
    "Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist",
)  # fmt: skip
SEGNET_VALUES = MaskValues({**{value: value for value in range(len(SEGNET_NAMES))}, 11: IGNORED})
"""Classes of the masks of SegNet's tutorial, in which 11 is void."""

PARTS: Mapping[Role, str] = {"train": "train", "validation": "val", "test": "test"}
COLOR_FILE = "label_colors.txt"
IMAGE_FOLDERS = ("701_StillsRaw_full", "701_StillsRaw")
MASK_FOLDERS = ("LabeledApproved_full", "LabeledApproved")


@dataclass(frozen=True)
class _Folders:
    """Folders of the original distribution."""

    images: Path
    masks: Path


class Camvid(MaskSource):
    """CamVid: frames of a drive through Cambridge (Brostow et al. 2009), as published or as SegNet's tutorial splits it.

    Reads `root/train`, `root/trainannot`, `root/val`, … with 367, 101 and 233 images, 11 classes and void (value 11: no
    label), the usual benchmark (Badrinarayanan et al. 2017); or the original `root/701_StillsRaw_full` with the color masks
    `root/LabeledApproved_full` and the classes of `root/label_colors.txt`, of which `Void` has no label. The splits of the
    original are the lists `train.txt`, `val.txt` and `test.txt` in `root`, or whole sequences drawn by `test_fraction`. There
    is no background class.
    """

    license = License(
        "not stated",
        "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/",
        note="the authors ask to cite two papers",
    )
    root: Path = parameter("data/CamVid", help="Folder that contains train and trainannot, or 701_StillsRaw_full")
    size: int | list[int] | None = parameter(
        [360, 480], help="Height and width of the examples in pixels (null: those of the images)", always_in_label=True
    )
    background: Literal["first", "none"] = parameter(
        "none", help="Background of the masks: the first class, or none, as in street scenes"
    )

    def data_files(self) -> Mapping[str, Source]:
        """Return the images, masks, lists and colors of the layout."""
        root = expand_user(self.root)
        original = _original_folders(root)
        if original is None:
            folders = [f"{part}{ending}" for part in PARTS.values() for ending in ("", "annot")]
            return {name: FileTree(root / name, IMAGE_SUFFIXES) for name in folders}
        sources: dict[str, Source] = {
            "images": FileTree(original.images, IMAGE_SUFFIXES),
            "masks": FileTree(original.masks, MASK_SUFFIXES),
            COLOR_FILE: root / COLOR_FILE,
        }
        return {**sources, **{path.name: path for path in _lists(root).values()}}

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Decode all pairs once; later runs map the decoded arrays."""
        root = expand_user(self.root)
        original = _original_folders(root)
        if original is not None:
            return self._read_original(root, original)
        missing = [
            f"{part}{end}" for part in PARTS.values() for end in ("", "annot") if not (root / f"{part}{end}").is_dir()
        ]
        if missing:
            raise UserError(
                f"dataset.root: {root} contains neither {IMAGE_FOLDERS[0]} and {MASK_FOLDERS[0]} nor all folders of SegNet's "
                f"tutorial ({', '.join(missing)} missing)"
            )
        parts: dict[Role, MaskedImages] = {}
        for role, part in PARTS.items():
            folders = _Folders(root / part, root / f"{part}annot")
            rows, unused = _pairs(folders, "")
            notes = reading_note("mask_without_image", "Masks without an image were not read", unused)
            parts[role] = MaskedImages(list(rows.values()), list(rows), notes)
        return self._read_checked(parts, SEGNET_NAMES, SEGNET_VALUES)

    def _read_original(self, root: Path, folders: _Folders) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        table = read_color_file(root / COLOR_FILE)
        rows, unused = _pairs(folders, "_L")
        notes = reading_note("mask_without_image", "Masks without an image were not read", unused)
        lists = _lists(root)
        if lists:
            names = NameLists(list(rows), folders.images)
            chosen = {role: names.resolve(read_names(path), path.name) for role, path in lists.items()}
            notes += reading_note("unlisted_image", "Images on none of the lists were not read", names.unlisted())
        else:
            chosen = {"train": list(rows)}
        parts = {role: MaskedImages([rows[name] for name in listed], listed) for role, listed in chosen.items()}
        train, test, class_names = self._read_checked(parts, table.names, MaskValues(colors=table.classes))
        # Neighboring frames are nearly equal, so that a sequence must not be in two drawn splits.
        groups = None if lists else np.array([name.rsplit("_", 1)[0] for name in train.names])
        return replace(train, notes=train.notes + notes, groups=groups), test, class_names

    def _read_checked(
        self, parts: Mapping[Role, MaskedImages], names: Sequence[str], values: MaskValues
    ) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        masks = [
            file for part in parts.values() for _, *inputs in part.files for file in inputs if isinstance(file, Path)
        ]
        if self.on_error == "raise":
            scan = scan_masks([file for file in masks if file.is_file()], as_colors=values.colors is not None)
            check_declared(scan, values, len(names))
        return self.read_splits(parts, tuple(names), values)

    @property
    def mask_name_suffix(self) -> str:
        """End of the names of masks that the names of images do not have."""
        return "" if _original_folders(expand_user(self.root)) is None else "_L"

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write a tiny copy in the original layout, with lists."""
        (folder / COLOR_FILE).write_text("64 128 64\tAnimal\n128 0 0\tBuilding\n64 0 128\tCar\n0 0 0\tVoid\n")
        for part, count in (("train", 24), ("val", 6), ("test", 6)):
            names = [f"0006R0_f{part}{number:05}" for number in range(count)]
            (folder / f"{part}.txt").write_text("".join(f"{name}.png\n" for name in names))
            for number, name in enumerate(names):
                pixels, corners = draw_example(number, part)
                left, top = int(corners[0]), int(corners[1])
                mask = np.full((16, 20, 3), (128, 0, 0), dtype=np.uint8)
                mask[top : top + 6, left : left + 6] = ((64, 0, 128), (64, 128, 64))[number % 2]
                mask[0] = 0
                save_image(folder / IMAGE_FOLDERS[0] / f"{name}.png", pixels)
                save_image(folder / MASK_FOLDERS[0] / f"{name}_L.png", mask)
        return {"root": str(folder), "size": 16}


def _original_folders(root: Path) -> _Folders | None:
    """Return the folders of the original distribution, if it is one."""
    images = next((root / name for name in IMAGE_FOLDERS if (root / name).is_dir()), None)
    masks = next((root / name for name in MASK_FOLDERS if (root / name).is_dir()), None)
    return None if images is None or masks is None else _Folders(images, masks)


def _lists(root: Path) -> dict[Role, Path]:
    return {role: root / f"{part}.txt" for role, part in PARTS.items() if (root / f"{part}.txt").is_file()}


def _pairs(folders: _Folders, suffix: str) -> tuple[dict[str, MaskedImage], list[str]]:
    """Return image and mask by name, and the masks without an image."""
    images = name_files(image_files(folders.images), folders.images, "dataset.root")
    matched = match_masks(list(images), folders.masks, suffix, "dataset.root")
    rows: dict[str, MaskedImage] = {
        name: (image, mask or folders.masks / f"{name}{suffix}.png")
        for (name, image), mask in zip(images.items(), matched.files, strict=True)
    }
    return rows, [file.name for file in matched.unused]
