"""Wrong pixels, each for itself."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.data.dataset import Dataset
from noisybench.data.noise_model import sample_transitions
from noisybench.noise_models._masks import Corruption, Mask, MaskNoise


class PixelFlip(MaskNoise):
    """Every pixel's class changes for itself, by a transition matrix.

    `symmetric`: to any other class alike. `pair`: to the next class. `foreground`: background becomes any other class, and these
    become background, as in an unused part of the code of Liu et al. 2022.
    """

    stream_name = "pixel_flip"
    convention = "rate is the expected share of changed pixels of corrupted images at severity 1"

    rate: float = parameter(
        0.1, ge=0, le=1, low=0.05, high=0.4, help="probability that a pixel changes", always_in_label=True
    )
    kind: Literal["symmetric", "pair", "foreground"] = parameter(
        "symmetric", help="what it changes to", always_in_label=True
    )

    def nominal_rate(self, dataset: Dataset) -> float | None:
        """The rate, where it decides alone."""
        return self.rate if self.severity == self.corrupted_fraction == 1 and self.target_miou is None else None

    def corrupt_mask(self, mask: Mask, given: Corruption) -> Mask:
        """Changed pixels."""
        matrix = self.transitions(given.classes, min(1.0, given.severity * self.rate))
        # Most pixels stay: who may change is drawn first, and to what for these alone.
        highest = np.ceil((1 - np.diag(matrix).min()) * 2**16) / 2**16
        found = mask.ravel().copy()
        chosen = np.flatnonzero(given.stream.chance(float(highest), mask.size))
        conditional = np.eye(given.classes) + (matrix - np.eye(given.classes)) / max(highest, 1e-12)
        found[chosen] = sample_transitions(
            conditional, found[chosen].astype(np.int64), given.stream.uniform(len(chosen))
        )
        return found.reshape(mask.shape)

    def transitions(self, classes: int, rate: float) -> NDArray[np.float64]:
        """(C, C) probabilities; rows are clean classes."""
        if self.kind == "symmetric":
            off = np.full((classes, classes), rate / (classes - 1))
        elif self.kind == "pair":
            off = rate * np.roll(np.eye(classes), 1, axis=1)
        else:
            off = np.zeros((classes, classes))
            off[0, 1:], off[1:, 0] = rate / (classes - 1), rate
        np.fill_diagonal(off, 0)
        return off + np.diag(1 - off.sum(1))
