"""Shape model of ellipse-like objects: random masks of one object each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisybench.utils.seeds import Stream


@dataclass(frozen=True)
class EllipseModel:
    """Distribution of ellipse-like objects, whose outline may deviate smoothly from an ellipse.

    Attributes:
        min_axis: smallest major semi-axis, relative to the shorter side of the image.
        max_axis: largest major semi-axis.
        min_ratio: smallest ratio of the minor to the major semi-axis; the largest is 1.
        wobble: amplitude of the deviation of the outline, relative to its radius.

    Example:
        >>> mask = EllipseModel().draw(Stream("example"), (32, 32))
        >>> mask.shape, bool(0.02 < mask.mean() < 0.4)
        ((32, 32), True)
    """

    min_axis: float = 0.16
    max_axis: float = 0.30
    min_ratio: float = 0.6
    wobble: float = 0.0

    def draw(self, stream: Stream, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Return a (H, W) mask of one object, in a random pose in which it lies inside of the image.

        Args:
            stream: random numbers; every mask uses eight of them.
            size: height and width of the mask.
        """
        height, width = size
        draws = stream.uniform(8)
        major = min(size) * (self.min_axis + (self.max_axis - self.min_axis) * draws[0])
        minor = major * (self.min_ratio + (1 - self.min_ratio) * draws[1])
        margin = major * (1 + self.wobble)
        row = margin + max(height - 1 - 2 * margin, 0) * draws[2]
        column = margin + max(width - 1 - 2 * margin, 0) * draws[3]
        return self._outline(size, (row, column), (major, minor), math.pi * draws[4], draws[5:])

    def _outline(
        self,
        size: tuple[int, int],
        center: tuple[float, float],
        axes: tuple[float, float],
        angle: float,
        draws: NDArray[np.float64],
    ) -> NDArray[np.bool_]:
        rows, columns = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float64)
        rows, columns = rows - center[0], columns - center[1]
        along = (rows * math.sin(angle) + columns * math.cos(angle)) / axes[0]
        across = (rows * math.cos(angle) - columns * math.sin(angle)) / axes[1]
        direction = np.arctan2(across, along)
        # The second and third harmonic bend the outline; the first would only shift it.
        bend = 0.5 * sum(np.sin(order * direction + 2 * math.pi * draws[order - 2]) for order in (2, 3))
        return np.asarray(np.hypot(along, across) <= 1 + self.wobble * bend)
