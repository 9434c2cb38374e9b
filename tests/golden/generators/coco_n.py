"""Contour noise, resizing and class flips of the authors of COCO-N, on objects of drawn scenes."""

from __future__ import annotations

import importlib
import random
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from noisybench.config.registry import get_entry
from noisybench.noise_models._regions import find_objects

REFERENCE = "https://github.com/eden500/Noisy-Labels-Instance-Segmentation"
COMMIT = "66ec5f59076344051c3ccb08a035d15c879d6a6f"
COMPUTED = (
    "noise_annotations: contours of objects in images of 32 to 256 pixels simplified at 5, 10 and 15 pixels and jittered "
    "by 2, 3 and 4 from the numbers of np.random.seed(position); squares of 3, 5 and 7; transition matrices; kinds, IoU "
    "and classes of 4000 annotations at each level, with shapely 2.2.0 (GEOS 3.14.1)"
)

COUNTS = {32: 24, 64: 16, 128: 8, 256: 4}
TOLERANCES, DEVIATIONS, SQUARES = (5, 10, 15), (2, 3, 4), (3, 5, 7)
LEVELS = {"easy": (0.2, 5, 2, 3, 0.2), "medium": (0.25, 10, 3, 5, 0.3), "hard": (0.3, 15, 4, 7, 0.4)}
KINDS = ("approximation", "localization", "rand", "none")
CLASSES = 5


def object_masks(size: int, count: int) -> NDArray[np.uint8]:
    """Return binary masks of one object each."""
    dataset = get_entry("datasets", "scenes").load_class()(
        size=size, train_images=count, validation_images=1, test_images=1
    )
    masks = []
    for mask in dataset.load().train.targets:
        item = max(find_objects(mask), key=lambda item: item.pixels.sum())
        single = np.zeros_like(mask)
        rows, columns = item.pixels.shape
        single[item.top : item.top + rows, item.left : item.left + columns] = item.pixels
        masks.append(single)
    return np.stack(masks)


def load_reference(folder: Path) -> Any:
    """Import the authors' script; its readers of COCO files and its progress bar are not used."""
    sys.path.insert(0, str(folder))
    sys.modules |= {name: mock.MagicMock() for name in ("pycocotools", "pycocotools.coco", "tqdm")}
    return importlib.import_module("noise_annotations")


def generate(folder: Path) -> dict[str, Any]:
    """Return objects, and what the authors' functions make of them."""
    reference = load_reference(folder)
    # The mask before it is encoded as COCO stores it.
    reference.maskUtils.encode = lambda mask: {"counts": mask}
    arrays: dict[str, Any] = {}
    for size, count in COUNTS.items():
        masks = object_masks(size, count)
        arrays[f"masks_{size}"] = np.packbits(masks)
        simplified = [[reference.add_approximation_noise(mask, t) for mask in masks] for t in TOLERANCES]
        arrays[f"simplified_{size}"] = np.packbits(np.array(simplified))
        jittered = []
        for deviation in DEVIATIONS:
            for position, mask in enumerate(masks):
                np.random.seed(position)  # noqa: NPY002 (the reference draws from this generator)
                jittered.append(reference.add_localization_noise(mask, deviation))
        arrays[f"jittered_{size}"] = np.packbits(np.array(jittered))

    # Objects at the edge of the image, which the squares must not erode from that edge.
    edge = np.zeros((4, 32, 32), dtype=np.uint8)
    edge[0, :20, :14], edge[1, 12:, 18:], edge[2, 8:, 8:24], edge[3, 6:26, 5:29] = 1, 1, 1, 1
    arrays["edge"], resized = np.packbits(edge), []

    def annotate(mask: NDArray[np.uint8], mixture: dict[str, Any], label: int) -> tuple[Any, str, int]:
        annotation = {"id": 0, "category_id": label}
        coco = mock.MagicMock()
        coco.loadAnns.return_value = [dict(annotation)]
        coco.annToMask.return_value = mask
        file = {"categories": [{"id": number, "supercategory": "all"} for number in range(1, CLASSES + 1)]}
        result, kind, _ = reference.new_boundaries_with_prob(dict(mixture), coco, 0, file, annotation)
        return result["counts"], kind, annotation["category_id"]

    for square in SQUARES:
        for direction in (0.0, 1.0):
            with mock.patch.object(np.random, "rand", lambda value=direction: value):
                resized += [annotate(mask, {"rand": [1, square]}, 1)[0] for mask in edge]
    arrays["resized"] = np.packbits(np.array(resized))

    arrays["symmetric"] = reference.uniform_mix_C(0.3, CLASSES)
    groups = ["a", "a", "a", "b", "b"]
    categories = [{"id": number + 1, "supercategory": group} for number, group in enumerate(groups)]
    arrays["grouped"] = reference.uniform_assymetric_mix_C(
        0.3, {"categories": categories}, {number + 1: number for number in range(CLASSES)}, CLASSES
    )

    masks = object_masks(64, 50)
    for name, (probability, tolerance, deviation, square, rate) in LEVELS.items():
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        mixture = {
            "approximation": [probability, tolerance], "localization": [probability, deviation],
            "rand": [probability, square], "flip_class": rate,
        }  # fmt: skip
        kinds, ious, labels = np.zeros(4), np.zeros(4000), np.zeros(4000)
        for draw in range(4000):
            mask = masks[draw % len(masks)]
            noisy, kind, labels[draw] = annotate(mask, mixture, 1)
            kinds[KINDS.index(kind)] += 1
            ious[draw] = (mask & noisy).sum() / (mask | noisy).sum()
        arrays |= {
            f"kinds_{name}": kinds, f"iou_{name}": np.array([ious.mean(), ious.std()]),
            f"labels_{name}": np.bincount(labels.astype(int), minlength=CLASSES + 1)[1:],
        }  # fmt: skip
    return arrays
