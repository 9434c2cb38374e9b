"""Instance-dependent noise: an example's own pixels decide how it is mislabelled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, softmax

from noisybench.config.parameters import parameter
from noisybench.data.dataset import Dataset, Split
from noisybench.data.noise_model import NoiseModel, check_exclusive_rate
from noisybench.utils.seeds import Stream

WEIGHT_GRID = 2.0**16


class InstanceDependent(NoiseModel):
    """Part-dependent label noise of Xia et al. 2020 (algorithm 2).

    Example x of class y is mislabelled with probability q ~ N(rate, spread**2) truncated to [0, 1]; the wrong class
    is drawn from softmax(x W_y) without y, with a standard normal projection W_y of shape (pixels, C) per class.

    Pixels are taken in [0, 1]. The projections are rounded to 2**-16: then every product and sum is an exact integer
    in double precision, so that the scores, and with them the labels, do not depend on a machine's order of summation.
    """

    stream_name = "InstanceDependent"
    convention = "an example's probability of being wrong is drawn around the rate, its wrong class from its pixels"

    rate: float = parameter(
        0.4, ge=0, lt=1, help="mean probability of a wrong label, at most 1 - 1/C", always_in_label=True
    )
    spread: float = parameter(0.1, gt=0, le=1, help="standard deviation of that probability over examples")

    def corrupt_labels(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[np.int64]:
        """Draw each observed target from its example's own distribution."""
        classes = dataset.num_classes
        check_exclusive_rate(self.rate, classes)
        if self.rate == 0 or not len(split):
            return split.targets.copy()
        wrong = stream.uniform(len(split)) < self._flip_probability(stream.uniform(len(split)))
        choice = stream.uniform(len(split))
        observed = split.targets.copy()
        pixels = int(np.prod(split.inputs.shape[1:]))
        for label in range(classes):
            rows = np.flatnonzero(wrong & (split.targets == label))
            # One projection per class, shared by both splits: it belongs to the noise, not to the examples.
            projection = Stream("instance_dependent", self.seed, dataset.hash, label).normal(pixels, classes)
            projection = np.rint(projection * WEIGHT_GRID)
            for chunk in np.array_split(rows, max(1, len(rows) * pixels // 2**24)):
                scores = (
                    split.inputs[chunk].reshape(len(chunk), pixels).astype(np.float64)
                    @ projection
                    / (255 * WEIGHT_GRID)
                )
                scores[:, label] = -np.inf
                cumulative = np.cumsum(softmax(scores, axis=1), axis=1)
                observed[chunk] = (choice[chunk, None] * cumulative[:, -1:] >= cumulative).sum(axis=1)
        return observed

    def _flip_probability(self, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
        """Truncated normal numbers in [0, 1] by inverting the distribution function."""
        low, high = ndtr(-self.rate / self.spread), ndtr((1 - self.rate) / self.spread)
        return np.asarray(self.rate + self.spread * ndtri(low + (uniform + 2.0**-33) * (high - low)))
