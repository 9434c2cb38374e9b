"""The detector `cnlcu`: lower bounds of mean losses, which count how often an example was trained on."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.audit.detectors.result import DetectorResult, Floats
from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.errors import UserError

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

    Examples:
        >>> rarely = np.array([[True, True, False], [True, True, False]])
        >>> cnlcu(losses=np.array([[0.1, 3.0, 3.0], [0.0, 3.0, 3.0]]), selected=rarely, variant="hard").scores.argmax()
        np.int64(1)

        Losses and selections of a network of PyTorch that trains on the smaller half of the losses in each epoch:

        >>> import torch
        >>> inputs, labels = torch.randn(8, 4), torch.arange(8) % 2
        >>> network = torch.nn.Linear(4, 2)
        >>> optimizer, losses, selected = torch.optim.SGD(network.parameters(), lr=0.1), [], []
        >>> for _ in range(3):
        ...     losses.append(torch.nn.functional.cross_entropy(network(inputs), labels, reduction="none"))
        ...     selected.append(losses[-1] <= losses[-1].median())
        ...     optimizer.zero_grad()
        ...     losses[-1][selected[-1]].mean().backward()
        ...     optimizer.step()
        >>> losses, selected = torch.stack(losses).detach().double().numpy(), torch.stack(selected).numpy()
        >>> cnlcu(losses=losses, selected=selected).scores.shape
        (8,)
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


CARDS: dict[str, Fidelity] = {
    "cnlcu": Fidelity(
        formula=(
            "soft: score = mean log(1 + l + l²/2) - s (t + s log(2t) / t²) / (n - s);  hard: score = mean of l without o "
            "outliers - 2 √(2s) 2 (t + √2 o) √(log(4t) / n) / ((t - o) √t);  l: losses of t epochs, n: selections, s: 1e-4"
        ),
        reference="https://github.com/xiaoboxia/CNLCU",
        commit="b96ddac6e987c012afeee4fd2836c46654a26eb5",
        license="not stated",
        compared="means of 40 examples after 22 epochs, both widths of bounds, and outliers by the factors of scikit-learn",
        difference="5e-7 in the means, 7e-8 in the soft widths, 1.2e-4 of 1.32 in the hard ones, whose √2 is 1.414 in the code",
        golden=("cnlcu",),
        deviations=(
            Deviation(
                "losses are given; the authors compute the bounds while two networks train on the selected examples",
                "a detector trains nothing",
                "without given selections, all bounds have one width, and the order is that of the means",
            ),
            Deviation(
                "the outliers are left out; the authors' hard truncation sets all losses but the outliers to 0, and counts them "
                "as the outliers",
                "the paper, and the sign of the library's flags",
                "in the frozen vectors the rank correlation with their means is -.23",
            ),
            Deviation(
                "the bound of an example is that of its own losses; the authors' soft code compares the history of the first "
                "example of a batch with the current losses of all",
                "the paper",
                "their selection in a batch is that of the current losses",
            ),
            Deviation(
                "the mean is that of all losses; the authors count a loss of 0 before the first epoch",
                "the paper",
                "one epoch more: a factor of t / (t + 1) in the soft mean",
            ),
            Deviation(
                "an example has one selection more than it is given; the authors count from 1 in the hard bound and from 2 in "
                "the soft one",
                "one definition, and finite bounds",
                "at most 5e-5 t in the soft bound",
            ),
            Deviation(
                "scores may be negative, and the parameter s is constant; the authors clip at 0, and s falls to 0 in 80 epochs",
                "clipped scores have no order, and E epochs need not be those of the training",
                "22 of the 40 hard scores of the authors are clipped",
            ),
        ),
    ),
}
"""Fidelity cards by detector."""
