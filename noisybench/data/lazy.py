"""Lazy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MEMORY_SHARE = 0.15
"""Largest part of the free memory that one split's images may take; larger ones stay on disk."""


class MemmapImages:
    """Some rows of a memory-mapped array: indexed like an array, but read only where it is."""

    def __init__(self, images: NDArray[Any], rows: NDArray[np.int64]) -> None:
        self._images, self._rows = images, rows
        self._others, self._place = images[:0], np.full(len(rows), -1)
        self.shape = (len(rows), *images.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: slice | NDArray[np.int64]) -> NDArray[Any]:
        images = np.ascontiguousarray(self._images[self._rows[index]])
        place = self._place[index]
        if (place >= 0).any():
            images[place >= 0] = self._others[place[place >= 0]]
        return images

    def with_images(self, rows: NDArray[np.int64], images: NDArray[Any]) -> MemmapImages:
        """The same with other images, held in memory, at some positions."""
        changed = MemmapImages(self._images, self._rows)
        changed._place[rows], changed._others = np.arange(len(rows)), images
        return changed


Images = NDArray[Any] | MemmapImages
"""(N, C, H, W) uint8, in memory or read where they are."""


def _rows(images: NDArray[Any], rows: NDArray[np.int64]) -> Images:
    """Some of the images: copied where they fit in memory, else read where they are."""
    lazy = MemmapImages(images, rows)
    if isinstance(images, np.memmap) and not fits_in_memory(len(rows) * images[0].nbytes):
        return lazy
    return lazy[:]


def fits_in_memory(size: int) -> bool:
    """Whether ``size`` bytes are a small part of the free memory, so that several runs can hold a copy each."""
    import psutil

    return size < MEMORY_SHARE * psutil.virtual_memory().available
