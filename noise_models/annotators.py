"""Annotators with habits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.errors import UserError
from noisybench.noise_models._masks import Corruption, Mask, MaskNoise, classes_in, grown, replace_class

HABITS = ("faithful", "over", "under", "wrong", "blank")


class Annotators(MaskNoise):
    """Each image was labelled by one of several annotators with habits of their own (Zhang et al. 2020, "Disentangling").

    `faithful` labels rightly, `over` and `under` by a dilated or eroded class, `wrong` by a dilated class with thin cracks,
    and `blank` leaves all as background. Images are given to the annotators at random with `shares`.
    """

    stream_name = "annotators"

    shares: list[float] = parameter(
        [0.2, 0.2, 0.2, 0.2, 0.2],
        help="of images labelled by faithful, over, under, wrong and blank annotators",
        always_in_label=True,
    )
    strength: int = parameter(3, ge=1, help="pixels by which classes are dilated or eroded", always_in_label=True)
    cracks: float = parameter(0.1, ge=0, le=1, help="share of rows and columns of a class that are cracks, for `wrong`")

    def corrupt_mask(self, mask: Mask, given: Corruption) -> Mask:
        """The mask as its annotator drew it."""
        if len(self.shares) != len(HABITS) or min(self.shares) < 0 or not sum(self.shares):
            raise UserError(f"noise.shares: needs {len(HABITS)} shares, for {', '.join(HABITS)}, but got {self.shares}")
        edges = np.cumsum(self.shares) / sum(self.shares)
        habit = HABITS[int(np.searchsorted(edges, given.draw(), side="right"))]
        found, amount = mask.copy(), given.whole(given.severity * self.strength)
        if habit == "faithful":
            return found
        if habit == "blank":
            # Part of a severity below 1 leaves some annotators awake.
            return np.zeros_like(found) if given.draw() < given.severity else found
        for label in classes_in(mask):
            own = np.asarray(found == label, dtype=np.uint8)
            after = grown(own, -amount if habit == "under" else amount)
            if habit == "wrong":
                after = self._cracked(after, given)
            replace_class(found, label, own, after)
        return found

    def _cracked(self, shape: NDArray[np.uint8], given: Corruption) -> NDArray[np.uint8]:
        share = min(1.0, given.severity * self.cracks)
        rows, columns = (given.stream.uniform(side) >= share / 2 for side in shape.shape)
        return shape * np.asarray(rows[:, None] & columns[None, :], dtype=np.uint8)
