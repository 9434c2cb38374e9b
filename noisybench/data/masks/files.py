"""Masks written back in the sizes, names, and values or colors of their source files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noisybench.data.dataset import Dataset
from noisybench.data.masks.masks import MaskReader
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError

LARGEST_IN_PNG = 65535
"""Largest value that a PNG file can hold."""


def write_masks(dataset: Dataset, masks: Mapping[str, NDArray[np.uint8]], folder: Path) -> int:
    """Write masks of training and validation images, which `noise=from_folder` reads back.

    A mask has the name and size of its source image, and the values or colors that the dataset declares for its files.
    Parts of an image that no example shows have no label. Datasets that are not read from files have names and sizes of
    their own.

    Args:
        dataset: dataset with the splits of the masks.
        masks: (N, H, W) uint8 classes and `IGNORED` by split, ``train`` or ``validation``.
        folder: where to write; created if missing.

    Returns:
        Number of files.

    Raises:
        UserError: pixels have no label, and the dataset declares no value for that.
    """
    from PIL import Image

    reader = dataset.mask_reader or MaskReader()
    folder.mkdir(parents=True, exist_ok=True)
    restored = _restore(dataset, masks)
    for name, mask in restored.items():
        values = reader.values.to_values(mask)
        # PNG files have no more than 16 bits.
        fits = values.min(initial=0) >= 0 and values.max(initial=0) <= LARGEST_IN_PNG
        file = folder / f"{name}{reader.suffix}{'.png' if fits else '.tif'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(file)
    return len(restored)


def _restore(dataset: Dataset, masks: Mapping[str, NDArray[np.uint8]]) -> dict[str, NDArray[np.uint8]]:
    """Return masks of whole source images by name."""
    rows = {"train": dataset.train.index, "validation": dataset.validation.index}
    if dataset.mask_layout is None:
        names = dataset.source_names or tuple(f"{row:05}" for row in range(dataset.source_size))
        return {names[row]: mask for split, each in masks.items() for row, mask in zip(rows[split], each, strict=True)}
    index = np.concatenate([rows[split] for split in masks])
    return dataset.mask_layout.restore(index, np.concatenate(list(masks.values())))


def writing_problem(dataset: Dataset) -> str | None:
    """Return the reason why masks of a dataset cannot be written by `write_masks`, if there is one."""
    layout, values = dataset.mask_layout, (dataset.mask_reader or MaskReader()).values
    table = values.colors if values.colors is not None else values.classes
    if layout is None or table is None or IGNORED in table.values():
        return None
    rows = np.concatenate([dataset.train.index, dataset.validation.index])
    shown: dict[str, float] = {}
    for row in rows:
        name = layout.names[row]
        shown[name] = shown.get(name, 0.0) + 1 - layout.placements[row].lost_share
    incomplete = [name for name, share in shown.items() if share < 1 - 1e-9]
    if not incomplete:
        return None
    kind, example = ("values", "{254: 255}") if values.colors is None else ("colors", '{"1,2,3": 255}')
    return (
        f"{len(incomplete)} images are shown in part only (the first: {incomplete[0]}), and dataset.{kind} has no entry for "
        f"pixels without a label; add one, such as {example}, or set dataset.resize_mode=resize"
    )


def check_writable(dataset: Dataset, location: str) -> None:
    """Check that masks of a dataset can be written.

    Raises:
        UserError: they cannot; the message begins with ``location``.
    """
    if problem := writing_problem(dataset):
        raise UserError(f"{location}: {problem}")
