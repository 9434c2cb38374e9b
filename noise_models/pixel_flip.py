"""Independent class noise of single pixels."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.data.dataset import Dataset, Split
from noisybench.data.noise_model import sample_transitions
from noisybench.errors import UserError
from noisybench.noise_models._masks import MaskContext, MaskNoise
from noisybench.noise_models._regions import Mask
from noisybench.utils.seeds import Stream


class PixelFlip(MaskNoise):
    """Change the class of each pixel independently, by a transition matrix.

    `symmetric`: to any other class with equal probability. `pair`: to the next class. `foreground`: background becomes
    any other class, and other classes become background, as in an unused part of the code of Liu et al. 2022.
    """

    stream_name = "pixel_flip"
    fidelity = Fidelity(
        reference="https://github.com/Kangningthu/ADELE",
        commit="7195bd0af39be79c533d67dd7eab7f9bfd6a4285",
        license="MIT",
        compared="transitions of 250,000 pixels of five classes at rates of .05 and .3, for kind=foreground",
        difference="0 in the probabilities; .003 in the drawn fractions",
        golden=("pixel_flip",),
        deviations=(
            Deviation(
                "kinds `symmetric` and `pair` have no counterpart in the code",
                "matrices of noise for classes, with pixels as examples",
                "none for kind=foreground",
            ),
        ),
    )
    moves_regions = False
    convention = "the rate is the expected fraction of changed pixels in corrupted images at severity 1"

    rate: float = parameter(
        0.1, ge=0, le=1, low=0.05, high=0.4, help="Probability that a pixel changes", always_in_label=True
    )
    kind: Literal["symmetric", "pair", "foreground"] = parameter(
        "symmetric", help="Classes that a changed pixel can take", always_in_label=True
    )

    def nominal_rate(self, dataset: Dataset) -> float | None:
        """Return the rate, if no other parameter changes the fraction of corrupted pixels."""
        return self.rate if self.severity == self.corrupted_fraction == 1 and self.target_miou is None else None

    def corrupt_labels(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[Any]:
        """Return the corrupted masks of one split.

        Raises:
            UserError: `foreground` is asked for, but the dataset has no background.
        """
        if self.kind == "foreground" and not dataset.has_background:
            raise UserError(
                "noise.kind: foreground needs a background (dataset.background=none); use symmetric or pair"
            )
        return super().corrupt_labels(dataset, split, stream)

    def corrupt_mask(self, mask: Mask, context: MaskContext) -> Mask:
        """Return the mask with changed pixels."""
        classes = context.num_classes
        matrix = self.transitions(classes, min(1.0, context.severity * self.rate))
        # Most pixels do not change: candidates are drawn first by cheap 16-bit numbers, at the highest probability of
        # any class, and only for these the new class by the conditional probabilities.
        highest = np.ceil((1 - np.diag(matrix).min()) * 2**16) / 2**16
        noisy = mask.ravel().copy()
        candidates = np.flatnonzero(context.stream.chance(float(highest), mask.size))
        # P(class | candidate): divided by the probability of a candidate, so that the product is the matrix.
        conditional = np.eye(classes) + (matrix - np.eye(classes)) / max(highest, 1e-12)
        noisy[candidates] = sample_transitions(
            conditional, noisy[candidates].astype(np.int64), context.stream.uniform(len(candidates))
        )
        return noisy.reshape(mask.shape)

    def transitions(self, num_classes: int, rate: float) -> NDArray[np.float64]:
        """Return the (C, C) transition probabilities; rows are clean classes."""
        if self.kind == "symmetric":
            matrix = np.full((num_classes, num_classes), rate / (num_classes - 1))
        elif self.kind == "pair":
            matrix = rate * np.roll(np.eye(num_classes), 1, axis=1)
        else:
            matrix = np.zeros((num_classes, num_classes))
            matrix[0, 1:], matrix[1:, 0] = rate / (num_classes - 1), rate
        np.fill_diagonal(matrix, 0)
        return matrix + np.diag(1 - matrix.sum(1))
