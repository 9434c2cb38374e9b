"""Detectors that read what was recorded while training: losses, margins, correct predictions and gradients."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from noisybench.audit.detectors.result import DetectorResult, Floats, Labels
from noisybench.errors import UserError
from noisybench.evaluation.mixture import two_components

UNCERTAINTY = 1e-4
"""Variance of losses with soft truncation, and mixing time of losses with hard truncation, of the authors of CNLCU."""

LARGEST_LOSS = 2.0
"""Bound of the losses with hard truncation, of the authors of CNLCU."""

MIN_EPOCHS = 5
"""Number of losses from which some are outliers."""

OUTLIER_FRACTION = 0.1
"""Fraction of the losses of an example that are outliers."""

SMOOTHING = 1e-10
"""Distance that keeps the density of equal losses finite, as in scikit-learn."""

BLOCK = 2048
"""Number of examples whose outliers are searched at a time."""


def small_loss(*, losses: Floats) -> DetectorResult:
    """Return the posterior probability of the component of large losses in a mixture of two Gaussians; flag above 1/2.

    The mixture is that of DivideMix (Li et al. 2020). Losses of several epochs, (E, N), are averaged.

    Example:
        >>> small_loss(losses=np.array([0.1, 0.2, 0.1, 0.2, 3.0, 3.1])).flagged
        array([False, False, False, False,  True,  True])
    """
    scores = two_components(torch.from_numpy(np.atleast_2d(losses).mean(0))).high.double().numpy()
    return DetectorResult(scores, scores > 0.5)


def aum(*, margins: Floats) -> DetectorResult:
    """Return minus the area under the margin: the mean, over training steps, of the logged margins (Pleiss et al. 2020).

    A margin is the logit of the observed label minus the largest other logit; (E, N) or, averaged already, (N,).

    Example:
        >>> aum(margins=np.array([[2.0, -1.0], [4.0, -3.0]])).scores
        array([-3.,  2.])
    """
    return DetectorResult(-np.atleast_2d(margins).mean(0))


def forgetting(*, correct: NDArray[np.bool_]) -> DetectorResult:
    """Return how often a correct prediction became incorrect, from (E, N) flags of E epochs (Toneva et al. 2019).

    An example that was never predicted correctly counts E times.

    Example:
        >>> forgetting(correct=np.array([[True, False, True], [False, False, True], [True, False, True]])).scores
        array([1., 3., 0.])
    """
    forgotten = (correct[:-1] & ~correct[1:]).sum(0)
    return DetectorResult(np.where(correct.any(0), forgotten, len(correct)).astype(np.float64))


def cnlcu(
    *, losses: Floats, selected: NDArray[np.bool_] | None = None, variant: Literal["soft", "hard"] = "soft"
) -> DetectorResult:
    """Return lower bounds of the mean losses of E epochs, which are lower for examples with less evidence.

    A large loss counts less where the example was rarely trained on (CNLCU, Xia et al. 2022). With `soft` truncation, a loss
    l counts log(1 + l + l^2 / 2); with `hard` truncation, the outliers among the losses of an example are left out.

    Args:
        losses: (E, N) losses of E epochs; (N,) of one.
        selected: (E, N) True where the example was trained on in the epoch; by default, in every epoch.
        variant: truncation of the losses.

    Raises:
        UserError: `selected` has another shape than the losses.

    Example:
        >>> rarely = np.array([[True, True, False], [True, True, False]])
        >>> cnlcu(losses=np.array([[0.1, 3.0, 3.0], [0.0, 3.0, 3.0]]), selected=rarely, variant="hard").scores.argmax()
        np.int64(1)
    """
    losses = np.atleast_2d(losses)
    if selected is not None and np.atleast_2d(selected).shape != losses.shape:
        raise UserError(
            f"selected: the shape is {selected.shape}, but that of the losses is {losses.shape}; give one truth value for "
            "each loss"
        )
    epochs = len(losses)
    # Counted from 1, as the authors do: the bound of an example that was never trained on is finite.
    counts = 1.0 + (np.full(losses.shape[1], epochs) if selected is None else np.atleast_2d(selected).sum(0))
    if variant == "soft":
        means = np.log1p(losses + losses**2 / 2).mean(0)
        return DetectorResult(means - soft_width(epochs, counts))
    means, outliers = truncated_means(losses)
    return DetectorResult(means - hard_width(epochs, counts, outliers))


def vog(*, labels: Labels, gradients: Floats) -> DetectorResult:
    """Return the variance of gradients over checkpoints, normalized within each label (VoG, Agarwal et al. 2022).

    The standard deviation over K checkpoints of the gradient of the label's logit with respect to each number of the input is
    averaged over the input. Of these values, the scores are z-scores among the examples with the same label.

    Args:
        labels: (N,) labels.
        gradients: (K, N, ...) gradients of the score of the label with respect to the input.

    Raises:
        UserError: there is only one checkpoint.

    Example:
        >>> gradients = np.array([[[1.0], [1.0], [1.0]], [[1.0], [1.0], [3.0]]])
        >>> vog(labels=np.array([0, 0, 0]), gradients=gradients).scores.round(2)
        array([-0.71, -0.71,  1.41])
    """
    if len(gradients) < 2:
        raise UserError(
            "gradients: variances need at least two checkpoints, but there is one; record gradients more often"
        )
    values = gradients.std(0).reshape(len(labels), -1).mean(1)
    scores = np.zeros(len(labels))
    for label in np.unique(labels):
        members = labels == label
        # Equal values have no z-scores, whatever rounding leaves of their deviation.
        if np.ptp(values[members]) > 0:
            scores[members] = (values[members] - values[members].mean()) / values[members].std()
    return DetectorResult(scores)


def soft_width(epochs: int, counts: Floats) -> Floats:
    """Return the (N,) distances between means and lower bounds with soft truncation.

    Args:
        epochs: number of losses of each example.
        counts: (N,) how often each example was trained on, from 1.

    Example:
        >>> soft_width(4, np.array([1.0, 4.0])).round(6)
        array([0.0004, 0.0001])
    """
    return np.asarray(UNCERTAINTY * (epochs + UNCERTAINTY * np.log(2 * epochs) / epochs**2) / (counts - UNCERTAINTY))


def hard_width(epochs: int, counts: Floats, outliers: Floats) -> Floats:
    """Return the (N,) distances between means and lower bounds with hard truncation.

    Args:
        epochs: number of losses of each example.
        counts: (N,) how often each example was trained on, from 1.
        outliers: (N,) how many losses were left out.

    Example:
        >>> hard_width(4, np.array([1.0, 4.0]), np.zeros(2)).round(3)
        array([0.047, 0.024])
    """
    scale = 2 * np.sqrt(2 * UNCERTAINTY) * LARGEST_LOSS * np.sqrt(np.log(4 * epochs) / (counts * epochs))
    return np.asarray(scale * (epochs + np.sqrt(2) * outliers) / (epochs - outliers))


def truncated_means(losses: Floats) -> tuple[Floats, Floats]:
    """Return the (N,) means of the losses of E epochs without outliers, and the (N,) numbers of outliers.

    Outliers have the largest local outlier factors (Breunig et al. 2000) of two neighbors, as in the code of the authors.

    Args:
        losses: (E, N) losses; fewer than five epochs have no outliers.

    Example:
        >>> truncated_means(np.array([[0.1], [0.2], [0.3], [9.0], [0.4], [0.5]]))
        (array([0.3]), array([1.]))
    """
    epochs, size = losses.shape
    if epochs < MIN_EPOCHS:
        return losses.mean(0), np.zeros(size)
    means, outliers = np.empty(size), np.empty(size)
    for start in range(0, size, BLOCK):
        ordered = np.sort(losses[:, start : start + BLOCK].T, axis=1)
        factors = _outlier_factors(ordered)
        kept = factors <= np.quantile(factors, 1 - OUTLIER_FRACTION, axis=1, keepdims=True)
        means[start : start + BLOCK] = (ordered * kept).sum(1) / kept.sum(1)
        outliers[start : start + BLOCK] = epochs - kept.sum(1)
    return means, outliers


def _outlier_factors(ordered: Floats) -> Floats:
    """Return the local outlier factors of numbers among those of the same row, for (N, E) rows in ascending order."""
    epochs = ordered.shape[1]
    # The two nearest numbers are among the two on either side.
    places = np.arange(epochs)[:, None] + np.array([-2, -1, 1, 2])
    is_inside = (places >= 0) & (places < epochs)
    distances = np.where(is_inside, np.abs(ordered[:, places.clip(0, epochs - 1)] - ordered[:, :, None]), np.inf)
    order = np.argsort(distances, axis=2, kind="stable")[:, :, :2]
    nearest, rows = places[np.arange(epochs)[:, None], order], np.arange(len(ordered))[:, None, None]
    distances = np.take_along_axis(distances, order, axis=2)
    reach = np.maximum(distances, distances[:, :, 1][rows, nearest]).mean(2)
    densities = 1 / (reach + SMOOTHING)
    return np.asarray(densities[rows, nearest].mean(2) / densities)
