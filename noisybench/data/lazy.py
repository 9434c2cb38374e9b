"""Images that stay on disk if they do not fit in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MEMORY_FRACTION = 0.15
"""Largest fraction of the free memory that the images of one split may occupy; larger ones stay on disk."""


class MemmapImages:
    """Rows of a memory-mapped array: indexed like an array, but read from disk on access."""

    def __init__(self, images: NDArray[Any], rows: NDArray[np.int64]) -> None:
        self._images, self._rows = images, rows
        # Position of each row's replacement image, -1 where the image is the original.
        self._replacements, self._position = images[:0], np.full(len(rows), -1)
        self.shape = (len(rows), *images.shape[1:])
        self.dtype = images.dtype

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: slice | NDArray[np.int64]) -> NDArray[Any]:
        # Indexing with an array copies, so the replacements below never reach the file.
        images = np.ascontiguousarray(self._images[self._rows[index]])
        position = self._position[index]
        if (position >= 0).any():
            images[position >= 0] = self._replacements[position[position >= 0]]
        return images

    def subset(self, rows: NDArray[np.int64]) -> MemmapImages:
        """Return some of the rows, which stay on disk."""
        subset = MemmapImages(self._images, self._rows[rows])
        subset._position, subset._replacements = self._position[rows], self._replacements
        return subset

    def with_images(self, rows: NDArray[np.int64], images: NDArray[Any]) -> MemmapImages:
        """Return a copy with other images, held in memory, in some rows."""
        # The copy shares the mapped file; only the table of positions is new.
        changed = MemmapImages(self._images, self._rows)
        changed._position[rows], changed._replacements = np.arange(len(rows)), images
        return changed


Images = NDArray[Any] | MemmapImages
"""(N, C, H, W) uint8 images, in memory or on disk."""


def take_rows(images: NDArray[Any], rows: NDArray[np.int64]) -> Images:
    """Return some of the images: a copy if it fits in memory, else a view of the file."""
    on_disk = MemmapImages(images, rows)
    if isinstance(images, np.memmap) and not fits_in_memory(len(rows) * images[0].nbytes):
        return on_disk
    return on_disk[:]


def fits_in_memory(num_bytes: int) -> bool:
    """Return True if an array is small enough for several runs to hold a copy each."""
    import psutil

    return num_bytes < MEMORY_FRACTION * psutil.virtual_memory().available
