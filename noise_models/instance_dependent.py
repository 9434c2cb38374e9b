"""Instance-dependent noise: the pixels of an example decide how it is mislabeled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, softmax

from noisybench.config.parameters import parameter
from noisybench.data.dataset import Dataset, Split
from noisybench.data.noise_model import NoiseModel, check_exclusive_rate
from noisybench.utils.seeds import Stream

WEIGHT_GRID = 2.0**16
"""Projections are multiples of the inverse of this number."""


class InstanceDependent(NoiseModel):
    """Mislabel examples depending on their pixels: part-dependent label noise (Xia et al. 2020, algorithm 2).

    Example x of class y is mislabeled with probability q ~ N(rate, spread**2) truncated to [0, 1]; its observed class is
    drawn from softmax(x W_y) without y, with a standard normal projection W_y of shape (pixels, C) for each class.

    Pixels are scaled to [0, 1]. The projections are rounded to 2**-16: then every product and sum is an exact integer
    in double precision, so the scores, and with them the labels, do not depend on a machine's order of summation.
    """

    stream_name = "InstanceDependent"
    convention = (
        "each example is mislabeled with a probability drawn around the rate, and its pixels decide the observed class"
    )

    rate: float = parameter(
        0.4, ge=0, lt=1, help="Mean probability of an incorrect label, at most 1 - 1/C", always_in_label=True
    )
    spread: float = parameter(0.1, gt=0, le=1, help="Standard deviation of that probability over examples")

    def corrupt_labels(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[np.int64]:
        """Draw each observed target from the distribution of its example."""
        classes = dataset.num_classes
        check_exclusive_rate(self.rate, classes)
        if self.rate == 0 or not len(split):
            return split.targets.copy()
        flipped = stream.uniform(len(split)) < self._flip_probability(stream.uniform(len(split)))
        # Drawn for every example, so that the numbers of an example do not depend on which others flip.
        choice = stream.uniform(len(split))
        observed = split.targets.copy()
        pixels = int(np.prod(split.inputs.shape[1:]))
        for label in range(classes):
            rows = np.flatnonzero(flipped & (split.targets == label))
            # One projection per class, shared by both splits, because it belongs to the noise and not to the examples.
            projection = Stream("instance_dependent", self.seed, dataset.hash, label).normal(pixels, classes)
            projection = np.rint(projection * WEIGHT_GRID)
            # In chunks of the order of 2**24 pixels, which bounds the memory of the copy in double precision.
            for chunk in np.array_split(rows, max(1, len(rows) * pixels // 2**24)):
                images = split.inputs[chunk].reshape(len(chunk), pixels).astype(np.float64)
                # Scaled only after the sum, which is exact as long as all terms are integers.
                scores = images @ projection / (255 * WEIGHT_GRID)
                # Probability 0 for the clean class, so that a flipped label always differs.
                scores[:, label] = -np.inf
                cumulative = np.cumsum(softmax(scores, axis=1), axis=1)
                # The number is scaled by the last sum, which rounding can leave below 1.
                observed[chunk] = (choice[chunk, None] * cumulative[:, -1:] >= cumulative).sum(axis=1)
        return observed

    def _flip_probability(self, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return truncated normal numbers in [0, 1] by inverting the distribution function."""
        # Half a grid step keeps the argument of the inverse off zero, where it is minus infinity.
        low, high = ndtr(-self.rate / self.spread), ndtr((1 - self.rate) / self.spread)
        return np.asarray(self.rate + self.spread * ndtri(low + (uniform + 2.0**-33) * (high - low)))
