"""Spectra of features: principal components from one pass, linear classifiers by rank, and measures of flatness.

No N x D matrix is decomposed: one pass accumulates moments in double precision, and one D x D matrix is diagonalized.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from noisybench.errors import UserError

NEGLIGIBLE = 1e-10
"""Eigenvalues below this fraction of the largest belong to directions without variance, such as those of dead units."""

MOMENT_CHUNK = 4096
"""Number of examples whose moments are accumulated at a time."""

EXAMPLE_CHUNK, RANK_CHUNK = 1024, 32
"""Number of examples and of ranks that are predicted at a time."""


@dataclass
class Moments:
    """Count, mean and scatter of vectors in float64; parts can be merged in any order.

    Attributes:
        count: number of vectors.
        mean: (D,) mean.
        scatter: (D, D) sum of outer products of deviations from the mean.

    >>> both = Moments.from_vectors(torch.tensor([[0.0]])).merge(Moments.from_vectors(torch.tensor([[2.0]])))
    >>> both.count, both.mean.item(), both.scatter.item()
    (2, 1.0, 2.0)
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def from_vectors(cls, vectors: Tensor) -> Moments:
        """Return the moments of (N, D) vectors."""
        vectors = vectors.double()
        mean = vectors.mean(0)
        # Centered before the product: subtracting the outer product of the means would cancel digits.
        centered = vectors - mean
        return cls(len(vectors), mean, centered.T @ centered)

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both parts together (Chan et al. 1979).

        Unlike a difference of squares, this does not cancel digits.
        """
        count = self.count + other.count
        difference = other.mean - self.mean
        scatter = self.scatter + other.scatter
        scatter = scatter + torch.outer(difference, difference) * (self.count * other.count / count)
        return Moments(count, self.mean + difference * (other.count / count), scatter)


@dataclass
class Spectrum:
    """Principal components of D features, and the covariance of C observed classes with them.

    Attributes:
        count: number of examples.
        mean: (D,) mean of the features.
        values: (D,) variances along the components, decreasing and >= 0.
        vectors: (D, D) components as columns.
        shares: (C,) fractions of the classes.
        cross: (D, C) covariance of each component with the one-hot labels.

    >>> features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]])
    >>> spectrum = spectrum_of(features, torch.tensor([0, 0, 1]), num_classes=2)
    >>> spectrum.positive
    tensor([ True, False])
    >>> spectrum.class_means()[1]
    tensor([4., 0.], dtype=torch.float64)
    """

    count: int
    mean: Tensor
    values: Tensor
    vectors: Tensor
    shares: Tensor
    cross: Tensor

    @property
    def positive(self) -> Tensor:
        """(D,) bool, True for components with variance."""
        return self.values > NEGLIGIBLE * self.values[0].clamp_min(torch.finfo(torch.float64).tiny)

    def components(self, features: Tensor) -> Tensor:
        """Return the (N, D) coordinates of (N, D) features along the components."""
        return (features.double() - self.mean) @ self.vectors

    def coefficients(self, penalty: float = 0.0) -> Tensor:
        """Return the (D, C) least-squares coefficients of one-hot labels on the components.

        The rows are independent of each other, because the components are uncorrelated.

        Args:
            penalty: ridge penalty in units of the mean eigenvalue.
        """
        ridge = self.values + penalty * self.values.mean()
        # The clamp keeps 1 / 0 out of the branch that `where` discards.
        return torch.where(self.positive, 1 / ridge.clamp_min(1e-300), torch.zeros_like(ridge))[:, None] * self.cross

    def least_squares(self, rank: int, penalty: float = 0.0) -> tuple[Tensor, Tensor]:
        """Return (C, D) weights and (C,) bias of the regression on the leading components, for original features."""
        weights = self.coefficients(penalty)[:rank].T @ self.vectors[:, :rank].T
        # The intercept makes the prediction at the mean feature equal to the class shares.
        return weights, self.shares - weights @ self.mean

    def truncated(self, weights: Tensor, bias: Tensor, rank: int) -> tuple[Tensor, Tensor]:
        """Return weights and bias of a linear classifier that uses features within the leading components only."""
        leading = self.vectors[:, :rank]
        kept = weights.double() @ leading @ leading.T
        # The discarded components are fixed at their mean, so that the scores of the mean feature do not change.
        return kept, bias.double() + (weights.double() - kept) @ self.mean

    def class_means(self) -> Tensor:
        """Return the (C, D) mean features of the observed classes; a class without examples has the overall mean."""
        # cov(x, 1[y = c]) = share_c (mean_c - mean), so that no second pass over the features is needed.
        offsets = (self.vectors @ self.cross).T / self.shares.clamp_min(1e-12)[:, None]
        return self.mean + torch.where(self.shares[:, None] > 0, offsets, torch.zeros_like(offsets))

    def within_class_covariance(self) -> Tensor:
        """Return the (D, D) covariance around the class means."""
        offsets = self.class_means() - self.mean
        total = self.vectors * self.values @ self.vectors.T
        # Law of total covariance: within classes = total - between classes.
        return total - (offsets * self.shares[:, None]).T @ offsets

    def energies(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return the (D,) fractions of (N, K) centered targets along each left singular vector of the features."""
        # Left singular vectors are X v / s with s^2 = count * value, so that no N x N matrix is formed.
        projected = self.components(features).T @ targets.double()
        scale = torch.where(
            self.positive, 1 / (self.count * self.values).clamp_min(1e-300), torch.zeros_like(self.values)
        )
        return projected.square().sum(1) * scale / targets.double().square().sum().clamp_min(1e-300)


def spectrum_of(features: Tensor, targets: Tensor, num_classes: int) -> Spectrum:
    """Return the principal components of features, and the covariance of the labels with them.

    Args:
        features: (N, D) finite features.
        targets: (N,) class indices; they do not change the components.
        num_classes: number of classes C.

    Raises:
        UserError: lengths differ, the features are not a finite matrix, or there are fewer than two examples.

    >>> spectrum_of(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([0, 1]), num_classes=2).values
    tensor([1., 0.], dtype=torch.float64)
    """
    check_features(features, targets)
    joint: Moments | None = None
    # Features and one-hot labels together: their joint scatter holds the covariance of both.
    for start in range(0, len(features), MOMENT_CHUNK):
        chunk = features[start : start + MOMENT_CHUNK].double()
        labels = functional.one_hot(targets[start : start + MOMENT_CHUNK], num_classes).to(chunk)
        part = Moments.from_vectors(torch.cat([chunk, labels], 1))
        joint = part if joint is None else joint.merge(part)
    assert joint is not None
    width, count = features.shape[1], joint.count
    values, vectors = torch.linalg.eigh(joint.scatter[:width, :width] / count)
    # `eigh` returns ascending eigenvalues, and rounding can make those near zero negative.
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    cross = vectors.T @ joint.scatter[:width, width:] / count
    return Spectrum(count, joint.mean[:width], values, vectors, joint.mean[width:], cross)


def check_features(features: Tensor, targets: Tensor | None = None) -> None:
    """Check that features are a finite (N, D) matrix with one label per row.

    Raises:
        UserError: they are not.

    >>> check_features(torch.zeros(2, 3), torch.zeros(1))
    Traceback (most recent call last):
    noisybench.errors.UserError: features: there are 2 rows, but 1 labels
    """
    if features.dim() != 2 or len(features) < 2:
        raise UserError(
            f"features: expected a matrix with at least two rows, but got the shape {tuple(features.shape)}"
        )
    if targets is not None and len(targets) != len(features):
        raise UserError(f"features: there are {len(features)} rows, but {len(targets)} labels")
    invalid = int((~features.isfinite()).any(1).sum())
    if invalid:
        raise UserError(f"features: {invalid} of {len(features)} rows contain numbers that are not finite")


def rank_grid(classes: int, width: int) -> list[int]:
    """Return ranks to try: dense around the number of classes, then increasingly sparse, up to all dimensions.

    >>> rank_grid(classes=2, width=8)
    [1, 2, 3, 4, 5, 6, 8]
    """
    near = [round(classes * tenths / 10) for tenths in (5, 6, 7, 8, 9, 10, 11, 12, 15, 20, 25, 30, 40, 60)]
    far = [round(classes * 9 * 1.5**step) for step in range(40)]
    return [*sorted({rank for rank in near + far if 1 <= rank < width}), width]


def predict_by_rank(components: Tensor, coefficients: Tensor, start: Tensor, ranks: Sequence[int]) -> Tensor:
    """Return the (R, N) predicted classes of linear classifiers that use more and more components.

    Args:
        components: (N, D) coordinates of the features.
        coefficients: (D, C) contributions of each component to the scores.
        start: (C,) scores without any component.
        ranks: number of components of each classifier, increasing, from 0.

    >>> predict_by_rank(torch.tensor([[1.0]]), torch.tensor([[-1.0, 1.0]]), torch.tensor([0.5, 0.0]), [0, 1])
    tensor([[0],
            [1]])
    """
    predictions = torch.empty(len(ranks), len(components), dtype=torch.int64, device=components.device)
    # The scores of a few ranks for a few examples fit in the cache, and each rank adds to those before it.
    for first in range(0, len(components), EXAMPLE_CHUNK):
        # (D, examples), contiguous, so that the components added by a rank are adjacent rows.
        part = components[first : first + EXAMPLE_CHUNK].T.contiguous()
        last, before = start[:, None].expand(-1, part.shape[1]), 0
        for first_rank in range(0, len(ranks), RANK_CHUNK):
            scores = []
            for rank in ranks[first_rank : first_rank + RANK_CHUNK]:
                last = torch.addmm(last, coefficients[before:rank].T, part[before:rank])
                scores.append(last)
                before = rank
            rows = slice(first_rank, first_rank + len(scores))
            predictions[rows, first : first + part.shape[1]] = _argmax(torch.stack(scores))
    return predictions


def _argmax(scores: Tensor) -> Tensor:
    """Return the (R, N) positions of the first maximum of (R, C, N) scores.

    `torch.argmax` over a dimension that is not the last is several times slower.
    """
    best, position = scores[:, 0].clone(), torch.zeros_like(scores[:, 0], dtype=torch.int64)
    for label in range(1, scores.shape[1]):
        # Strictly greater, so that the first of several equal scores is kept.
        position.masked_fill_(scores[:, label] > best, label)
        torch.maximum(best, scores[:, label], out=best)
    return position


def effective_rank(values: Tensor) -> float:
    """Return the exponential of the entropy of (D,) eigenvalues (Roy and Vetterli 2007), 1 to D; 0 without variance.

    >>> round(effective_rank(torch.tensor([1.0, 1.0])), 6)
    2.0
    """
    return float(_entropy(values).exp()) if bool(values.sum() > 0) else 0.0


def participation_ratio(values: Tensor) -> float:
    """Return the squared sum over the sum of squares of (D,) eigenvalues, 1 to D; 0 without variance.

    >>> participation_ratio(torch.tensor([1.0, 1.0, 0.0]))
    2.0
    """
    return float(values.sum() ** 2 / values.square().sum()) if bool(values.sum() > 0) else 0.0


def rank_explaining(values: Tensor, fraction: float) -> int:
    """Return the smallest number of (D,) decreasing eigenvalues that make up a fraction of their sum.

    >>> rank_explaining(torch.tensor([6.0, 3.0, 1.0]), 0.9)
    2
    """
    # The tolerance keeps a rounding error of the cumulative sum from adding a rank.
    return int((values.cumsum(0) < fraction * values.sum() * (1 - 1e-12)).sum()) + 1


def _entropy(weights: Tensor) -> Tensor:
    shares = weights.double() / weights.double().sum()
    # `xlogy` is 0 at 0, where x * log(x) would be NaN.
    entropy: Tensor = -torch.special.xlogy(shares, shares).sum()
    return entropy


def singular_value_entropy(singular: Tensor) -> float:
    """Return the entropy in nats of (r,) normalized singular values (Chen et al. 2024); a flat spectrum has a large one.

    >>> round(singular_value_entropy(torch.tensor([1.0, 1.0])), 4)
    0.6931
    """
    return float(_entropy(singular)) if bool(singular.sum() > 0) else 0.0


def largest_singular_value_ratio(singular: Tensor) -> float:
    """Return minus the logarithm of the largest singular value's fraction of their sum (Chen et al. 2024).

    Note the sign: a larger value means a weaker dominant direction. The value for zeros is 0.

    >>> round(largest_singular_value_ratio(torch.tensor([1.0, 1.0])), 4)
    0.6931
    """
    return float(-(singular.double().max() / singular.double().sum()).log()) if bool(singular.sum() > 0) else 0.0


PREPROCESSING = ("raw", "l2", "l2_rowmean", "l2_colmean")
"""Preprocessing of features before the singular values; values with different preprocessing are not comparable."""


def singular_values(features: Tensor, preprocess: str = "l2_rowmean") -> Tensor:
    """Return the singular values of (N, D) features in float64.

    Args:
        features: finite features.
        preprocess: name in `PREPROCESSING`: raw rows, or rows of norm one, optionally minus the mean of each row or of
            each column.

    >>> singular_values(torch.tensor([[3.0, 0.0], [0.0, 4.0]]), "l2")
    tensor([1., 1.], dtype=torch.float64)
    """
    check_features(features)
    matrix = features.double()
    if preprocess != "raw":
        matrix = functional.normalize(matrix, dim=1)
    if preprocess == "l2_rowmean":
        matrix = matrix - matrix.mean(1, keepdim=True)
    if preprocess == "l2_colmean":
        matrix = matrix - matrix.mean(0)
    # From the eigenvalues of the smaller product of the matrix with itself: a third of the time of a decomposition, because
    # NumPy computes only half of the entries of this symmetric product.
    values = (matrix if matrix.shape[0] > matrix.shape[1] else matrix.T).numpy()
    squares = torch.from_numpy(np.linalg.eigvalsh(values.T @ values)).flip(0)
    # Eigenvalues below the rounding error are zeros of the matrix; their roots would be far above that of singular values.
    return squares.where(squares > len(squares) * torch.finfo(squares.dtype).eps * squares[0], 0).sqrt()
