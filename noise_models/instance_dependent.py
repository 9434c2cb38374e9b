"""Instance-dependent noise: the pixels of an example decide how it is mislabeled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtri_exp, softmax

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.data.dataset import Dataset, Split
from noisybench.data.noise_model import NoiseModel, check_exclusive_rate
from noisybench.data.texts import is_text
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream

WEIGHT_GRID = 2.0**16
"""Projections are multiples of the inverse of this number."""

LOCATION_GRID = 2.0**30
"""Solved locations are multiples of the inverse of this number, so that they are the same on every machine."""

SMALL_MEAN = 1e-2
"""Mean, in standard deviations, below which a truncated normal distribution is replaced by the exponential one of the same
mean, to which it converges: quantiles agree to about 1e-4 of the mean, and the location would be too far below zero for
double precision."""


class InstanceDependent(NoiseModel):
    """Mislabel examples depending on their pixels: part-dependent label noise (Xia et al. 2020, algorithm 2).

    Example x of class y is mislabeled with probability q ~ N(location, spread**2) truncated to [0, 1]; its observed class
    is drawn from softmax(x W_y) without y, with a standard normal projection W_y of shape (pixels, C) for each class.

    Truncation moves the mean of q away from the location: at the location 0.1 and the spread 0.1, it is 0.129. By default
    the location is solved such that the mean is `rate`; with `rate_meaning: location` the rate is the location itself, as in
    the authors' code and the papers that use it, and the manifest states the mean as the nominal rate.

    Pixels are scaled to [0, 1]. The projections are rounded to 2**-16: then every product and sum is an exact integer
    in double precision, so the scores, and with them the labels, do not depend on a machine's order of summation.

    Features of `dataset=features` take the place of pixels: each feature is rounded to 256 levels between its smallest and
    its largest value in the training split.
    """

    stream_name = "InstanceDependent"
    requires_inputs = True
    convention = (
        "each example is mislabeled with a probability of its own, whose mean is the nominal rate, and its pixels decide the "
        "observed class"
    )
    fidelity = Fidelity(
        formula="P(k | x, y) = q · softmax(x W_y without y)_k for k ≠ y,  q ~ N(location, spread²) within [0, 1]",
        reference="https://github.com/xiaoboxia/Part-dependent-label-noise",
        commit="b682527702bd8abf3c099e16516e23b03f163f04",
        license="not stated",
        compared="the probabilities of the observed classes of 40 examples with the authors' projections and flip "
        "rates; the distribution of the flip rates",
        difference="3.0e-6 in the probabilities (single precision, projections on a grid of 2**-16)",
        golden=("part_dependent_noise",),
        deviations=(
            Deviation(
                "the rate is the mean probability of an incorrect label; the authors' rate is the mean before "
                "truncation to [0, 1], which rate_meaning=location gives",
                "a rate means the same in all noise models",
                "the authors' rates .05, .1, .15, .2 and .4 give 10.1, 12.9, 16.4, 20.6 and 40.0 % incorrect labels",
            ),
            Deviation(
                "pixels are in [0, 1] for all datasets; the authors project what their loader gives, on "
                "CIFAR-10 pixels from 0 to 255",
                "the noise does not depend on a loader",
                "74 % of the incorrect labels of a class are one other class in both; their highest "
                "probability is .97 here, 1.000 there",
            ),
        ),
    )

    rate: float = parameter(
        0.4, ge=0, lt=1, help="Mean probability of an incorrect label, at most 1 - 1/C", always_in_label=True
    )
    spread: float = parameter(
        0.1, gt=0, le=1, help="Standard deviation of that probability over examples, before it is truncated to [0, 1]"
    )
    rate_meaning: Literal["mean", "location"] = parameter(
        "mean", help="Whether `rate` is the mean probability, or the mean before truncation as published"
    )

    def corrupt_labels(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[np.int64]:
        """Draw each observed target from the distribution of its example."""
        classes = dataset.num_classes
        check_exclusive_rate(self.nominal_rate(dataset), classes)
        if self.rate == 0 or not len(split):
            return split.targets.copy()
        flipped = stream.uniform(len(split)) < self._flip_probability(stream.uniform(len(split)))
        # Drawn for every example, so that the numbers of an example do not depend on which others flip.
        choice = stream.uniform(len(split))
        observed = split.targets.copy()
        if is_text(split.inputs):
            raise UserError(
                "noise: instance-dependent noise is drawn from numbers, but the dataset holds texts; use it on their features "
                "(`noisybench embed`, then dataset=features)"
            )
        pixels = int(np.prod(split.inputs.shape[1:]))
        to_levels = _feature_levels(dataset) if dataset.train.inputs.dtype != np.uint8 else None
        for label in range(classes):
            rows = np.flatnonzero(flipped & (split.targets == label))
            # One projection per class, shared by both splits, because it belongs to the noise and not to the examples.
            projection = Stream("instance_dependent", self.seed, dataset.hash, label).normal(pixels, classes)
            projection = np.rint(projection * WEIGHT_GRID)
            # In chunks of the order of 2**24 pixels, which bounds the memory of the copy in double precision.
            for chunk in np.array_split(rows, max(1, len(rows) * pixels // 2**24)):
                inputs = split.inputs[chunk] if to_levels is None else to_levels(split.inputs[chunk])
                cumulative = np.cumsum(wrong_class_probabilities(inputs, projection, label), axis=1)
                # The number is scaled by the last sum, which rounding can leave below 1.
                observed[chunk] = (choice[chunk, None] * cumulative[:, -1:] >= cumulative).sum(axis=1)
        return observed

    def nominal_rate(self, dataset: Dataset) -> float:
        """Return the mean probability of an incorrect label."""
        if self.rate_meaning == "mean" or self.rate == 0:
            return self.rate
        return truncated_mean(self.rate, self.spread)

    def _flip_probability(self, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return truncated normal numbers in [0, 1] by inverting the distribution function."""
        # Half a grid step keeps the argument of the inverse off zero, where it is minus infinity.
        uniform = uniform + 2.0**-33
        if self.rate_meaning == "mean" and self.rate < SMALL_MEAN * self.spread:
            return np.minimum(-self.rate * np.log1p(-uniform), 1.0)
        location = self.rate if self.rate_meaning == "location" else solve_location(self.rate, self.spread)
        if location > 0.5:
            return 1 - _quantile(1 - uniform, 1 - location, self.spread)
        return _quantile(uniform, location, self.spread)


def _feature_levels(dataset: Dataset) -> Callable[[NDArray[Any]], NDArray[np.uint8]]:
    """Return a function that maps each feature to the levels 0 to 255 of its range in the training split."""
    train = dataset.train.inputs[:]
    low, high = train.min(0).astype(np.float64), train.max(0).astype(np.float64)
    # A constant feature has no range, and says nothing about an example.
    width = np.where(high > low, high - low, 1.0)
    # Values of the validation split may lie outside.
    return lambda values: np.rint(255 * np.clip((values - low) / width, 0, 1)).astype(np.uint8)


def wrong_class_probabilities(
    images: NDArray[np.uint8], projection: NDArray[np.float64], label: int
) -> NDArray[np.float64]:
    """Return the (N, C) probabilities of the observed classes of mislabeled examples.

    Args:
        images: (N, ...) pixels from 0 to 255.
        projection: (pixels, C) projection of the clean class, in multiples of `WEIGHT_GRID`.
        label: clean class of the examples.
    """
    # Scaled only after the sum, which is exact as long as all terms are integers.
    scores = images.reshape(len(images), len(projection)).astype(np.float64) @ projection / (255 * WEIGHT_GRID)
    # Probability 0 for the clean class, so that a flipped label always differs.
    scores[:, label] = -np.inf
    probabilities: NDArray[np.float64] = softmax(scores, axis=1)
    return probabilities


def _quantile(uniform: NDArray[np.float64], location: float, spread: float) -> NDArray[np.float64]:
    """Return quantiles of a normal distribution truncated to [0, 1], whose location is at most 0.5."""
    # Logarithms of upper tails, which are accurate for locations far below 0 too.
    above_zero, above_one = log_ndtr(location / spread), log_ndtr((location - 1) / spread)
    tail = above_zero + np.log1p(-uniform * -np.expm1(above_one - above_zero))
    quantiles: NDArray[np.float64] = np.clip(location - spread * ndtri_exp(tail), 0, 1)
    return quantiles


def truncated_mean(location: float, spread: float) -> float:
    """Return the mean of a normal distribution truncated to [0, 1].

    Args:
        location: mean before truncation.
        spread: standard deviation before truncation.

    Example:
        >>> round(truncated_mean(0.1, 0.1), 4), round(truncated_mean(0.5, 0.3), 4)
        (0.1288, 0.5)
    """
    if location > 0.5:
        return 1 - truncated_mean(1 - location, spread)
    low, high = -location / spread, (1 - location) / spread
    above_zero, above_one = log_ndtr(-low), log_ndtr(-high)
    # Densities at both ends relative to the probability above zero.
    at_zero, at_one = (np.exp(-0.5 * end**2 - above_zero) / np.sqrt(2 * np.pi) for end in (low, high))
    return float(location + spread * (at_zero - at_one) / -np.expm1(above_one - above_zero))


def solve_location(mean: float, spread: float) -> float:
    """Return the location at which a normal distribution truncated to [0, 1] has a mean.

    Args:
        mean: mean after truncation, in (0, 1).
        spread: standard deviation before truncation.

    Example:
        >>> location = solve_location(0.1, 0.1)
        >>> round(location, 4), round(truncated_mean(location, 0.1), 6)
        (0.0481, 0.1)
    """
    if mean > 0.5:
        return 1 - solve_location(1 - mean, spread)
    low = -1.0
    while truncated_mean(low, spread) > mean:
        low *= 2
    location = brentq(lambda value: truncated_mean(value, spread) - mean, low, 0.5, xtol=1e-12)
    return float(np.rint(location * LOCATION_GRID) / LOCATION_GRID)
