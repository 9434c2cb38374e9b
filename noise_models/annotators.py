"""Annotators with different labeling habits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.errors import UserError
from noisybench.noise_models._masks import Mask, MaskContext, MaskNoise, grow, present_classes, replace_class

HABITS = ("faithful", "over", "under", "wrong", "blank")


class Annotators(MaskNoise):
    """Label each image by one of several annotators with different habits (Zhang et al. 2020, "Disentangling").

    `faithful` annotators label correctly, `over` and `under` dilate or erode each class, `wrong` dilate each class and
    leave thin cracks, and `blank` label everything as background. Images are assigned at random in proportion to `shares`.
    """

    stream_name = "annotators"

    shares: list[float] = parameter(
        [0.2, 0.2, 0.2, 0.2, 0.2],
        help="Fractions of images labeled by faithful, over, under, wrong and blank annotators",
        always_in_label=True,
    )
    strength: int = parameter(
        3, ge=1, help="Number of pixels by which classes are dilated or eroded", always_in_label=True
    )
    cracks: float = parameter(
        0.1, ge=0, le=1, help="Fraction of the rows and columns of a class that are cracks (`wrong` annotators)"
    )

    def corrupt_mask(self, mask: Mask, context: MaskContext) -> Mask:
        """Return the mask as drawn by its annotator."""
        if len(self.shares) != len(HABITS) or min(self.shares) < 0 or not sum(self.shares):
            raise UserError(
                f"noise.shares: needs {len(HABITS)} fractions, for {', '.join(HABITS)}, but got {self.shares}"
            )
        edges = np.cumsum(self.shares) / sum(self.shares)
        # side="right" skips habits with a share of 0.
        habit = HABITS[int(np.searchsorted(edges, context.random(), side="right"))]
        noisy, amount = mask.copy(), context.stochastic_round(context.severity * self.strength)
        if habit == "faithful":
            return noisy
        if habit == "blank":
            # A severity below 1 makes some of these annotators label correctly.
            return np.zeros_like(noisy) if context.random() < context.severity else noisy
        for label in present_classes(mask):
            region = np.asarray(noisy == label, dtype=np.uint8)
            changed = grow(region, -amount if habit == "under" else amount)
            if habit == "wrong":
                changed = self._crack(changed, context)
            replace_class(noisy, label, region, changed)
        return noisy

    def _crack(self, region: NDArray[np.uint8], context: MaskContext) -> NDArray[np.uint8]:
        """Return a region without some rows and columns."""
        fraction = min(1.0, context.severity * self.cracks)
        # Half of the fraction each, because rows and columns both remove pixels.
        rows, columns = (context.stream.uniform(side) >= fraction / 2 for side in region.shape)
        return region * np.asarray(rows[:, None] & columns[None, :], dtype=np.uint8)
