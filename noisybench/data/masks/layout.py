"""Relation of the masks of a dataset to the files of their source images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from noisybench.data.geometry import Placement
from noisybench.data.targets import IGNORED


@dataclass(frozen=True)
class MaskLayout:
    """Name of the source image of each example, and the place of the example in it.

    Attributes:
        names: (N,) name of each example's source image without suffix; tiles of one image share it.
        placements: (N,) place of each example in its source image.

    Examples:
        >>> from noisybench.data.geometry import Geometry
        >>> layout = MaskLayout(("a", "a"), Geometry((8, 8), "tile").placements((8, 12)))
        >>> masks = np.arange(2, dtype=np.uint8).repeat(64).reshape(2, 8, 8)
        >>> layout.restore(np.array([0, 1]), masks)["a"][0]
        array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1], dtype=uint8)
    """

    names: tuple[str, ...]
    placements: tuple[Placement, ...]

    @property
    def example_names(self) -> tuple[str, ...]:
        """Name of each example: that of its source image, with the number of the tile."""
        pairs = zip(self.names, self.placements, strict=True)
        return tuple(f"{name}#{placement.part}" if placement.is_tile else name for name, placement in pairs)

    def append(self, other: MaskLayout) -> MaskLayout:
        """Return the layout of these examples followed by others."""
        return replace(self, names=self.names + other.names, placements=self.placements + other.placements)

    def restore(
        self, rows: Sequence[int] | NDArray[np.int64], masks: NDArray[np.uint8]
    ) -> dict[str, NDArray[np.uint8]]:
        """Return masks in the sizes of their source images by name; the parts of tiles are joined.

        Args:
            rows: (M,) source rows of the masks.
            masks: (M, H, W) uint8 classes and `IGNORED`.

        Returns:
            Masks of the source images; pixels that no example shows are `IGNORED`.
        """
        restored: dict[str, NDArray[np.uint8]] = {}
        for row, mask in zip(rows, masks, strict=True):
            part = self.placements[row].restore(mask)
            earlier = restored.setdefault(self.names[row], part)
            if earlier is not part:
                np.copyto(earlier, part, where=part != IGNORED)
        return restored
