"""Spectra of features: principal components from one pass, linear classifiers by rank, and how flat a spectrum is.

No N x D matrix is decomposed: one pass accumulates moments in double precision, and one D x D matrix is diagonalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from noisybench.errors import UserError

NEGLIGIBLE = 1e-10
"""Eigenvalues below this share of the greatest belong to directions in which nothing varies, such as dead units."""

PORTION = 4096

SWEPT_EXAMPLES, SWEPT_RANKS = 1024, 32
"""How many examples and ranks are predicted at a time."""


@dataclass
class Moments:
    """Count, mean and scatter of vectors, in float64; parts may be gathered in any order and merged.

    Attributes:
        count: number of vectors.
        mean: (D,).
        scatter: (D, D) sum of outer products of deviations from the mean.
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, vectors: Tensor) -> Moments:
        """Moments of (N, D) vectors."""
        wide = vectors.double()
        mean = wide.mean(0)
        centred = wide - mean
        return cls(len(vectors), mean, centred.T @ centred)

    def merge(self, other: Moments) -> Moments:
        """Moments of both parts together (Chan et al. 1979); unlike a difference of squares it does not cancel."""
        count = self.count + other.count
        difference = other.mean - self.mean
        scatter = self.scatter + other.scatter
        scatter = scatter + torch.outer(difference, difference) * (self.count * other.count / count)
        return Moments(count, self.mean + difference * (other.count / count), scatter)


@dataclass
class Spectrum:
    """Principal components of features, and how observed labels lie along them; D features, C classes.

    Attributes:
        count: number of examples.
        mean: (D,) of the features.
        values: (D,) variances along the components, falling, from 0 up.
        vectors: (D, D) components as columns.
        shares: (C,) of the classes.
        cross: (D, C) covariance of each component with the one-hot labels.
    """

    count: int
    mean: Tensor
    values: Tensor
    vectors: Tensor
    shares: Tensor
    cross: Tensor

    @property
    def positive(self) -> Tensor:
        """(D,) bool, components along which anything varies."""
        return self.values > NEGLIGIBLE * self.values[0].clamp_min(torch.finfo(torch.float64).tiny)

    def components(self, features: Tensor) -> Tensor:
        """(N, D) coordinates of (N, D) features along the components."""
        return (features.double() - self.mean) @ self.vectors

    def coefficients(self, penalty: float = 0.0) -> Tensor:
        """(D, C) least-squares coefficients of one-hot labels on the components; each row stands for itself.

        Args:
            penalty: ridge penalty, in units of the mean eigenvalue.
        """
        ridge = self.values + penalty * self.values.mean()
        return torch.where(self.positive, 1 / ridge.clamp_min(1e-300), torch.zeros_like(ridge))[:, None] * self.cross

    def least_squares(self, rank: int, penalty: float = 0.0) -> tuple[Tensor, Tensor]:
        """(C, D) weights and (C,) bias of the regression on the first components, for features as they are."""
        weights = self.coefficients(penalty)[:rank].T @ self.vectors[:, :rank].T
        return weights, self.shares - weights @ self.mean

    def truncated(self, weights: Tensor, bias: Tensor, rank: int) -> tuple[Tensor, Tensor]:
        """A linear classifier that sees features only within the first components, as weights and bias again."""
        leading = self.vectors[:, :rank]
        kept = weights.double() @ leading @ leading.T
        return kept, bias.double() + (weights.double() - kept) @ self.mean

    def class_means(self) -> Tensor:
        """(C, D) mean features of the observed classes; that of all for a class without examples."""
        offsets = (self.vectors @ self.cross).T / self.shares.clamp_min(1e-12)[:, None]
        return self.mean + torch.where(self.shares[:, None] > 0, offsets, torch.zeros_like(offsets))

    def within_class_covariance(self) -> Tensor:
        """(D, D) covariance around the class means."""
        offsets = self.class_means() - self.mean
        whole = self.vectors * self.values @ self.vectors.T
        return whole - (offsets * self.shares[:, None]).T @ offsets

    def energies(self, features: Tensor, targets: Tensor) -> Tensor:
        """(D,) shares of (N, K) centred targets that lie along each left singular vector of the centred features."""
        projected = self.components(features).T @ targets.double()
        scale = torch.where(
            self.positive, 1 / (self.count * self.values).clamp_min(1e-300), torch.zeros_like(self.values)
        )
        return projected.square().sum(1) * scale / targets.double().square().sum().clamp_min(1e-300)


def spectrum_of(features: Tensor, targets: Tensor, num_classes: int) -> Spectrum:
    """Principal components of features, with the labels' place in them.

    Args:
        features: (N, D) finite.
        targets: (N,) class indices; they move no component.
        num_classes: C.

    Raises:
        UserError: lengths differ, features are not a finite matrix, or there are fewer than two.
    """
    check_features(features, targets)
    joint: Moments | None = None
    for start in range(0, len(features), PORTION):
        portion = features[start : start + PORTION].double()
        labels = functional.one_hot(targets[start : start + PORTION], num_classes).to(portion)
        part = Moments.of(torch.cat([portion, labels], 1))
        joint = part if joint is None else joint.merge(part)
    assert joint is not None
    width, count = features.shape[1], joint.count
    values, vectors = torch.linalg.eigh(joint.scatter[:width, :width] / count)
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    cross = vectors.T @ joint.scatter[:width, width:] / count
    return Spectrum(count, joint.mean[:width], values, vectors, joint.mean[width:], cross)


def check_features(features: Tensor, targets: Tensor | None = None) -> None:
    """Refuse features that are no finite (N, D) matrix with a label each.

    Raises:
        UserError: says what they are.
    """
    if features.dim() != 2 or len(features) < 2:
        raise UserError(f"features: expected a matrix of at least two rows, but got the shape {tuple(features.shape)}")
    if targets is not None and len(targets) != len(features):
        raise UserError(f"features: there are {len(features)} rows, but {len(targets)} labels")
    wrong = int((~features.isfinite()).any(1).sum())
    if wrong:
        raise UserError(f"features: {wrong} of {len(features)} rows hold numbers that are not finite")


def rank_grid(classes: int, width: int) -> list[int]:
    """Ranks worth trying: dense around the number of classes, then ever wider, up to all dimensions."""
    near = [round(classes * share / 10) for share in (5, 6, 7, 8, 9, 10, 11, 12, 15, 20, 25, 30, 40, 60)]
    far = [round(classes * 9 * 1.5**step) for step in range(40)]
    return [*sorted({each for each in near + far if 1 <= each < width}), width]


def predictions_by_rank(components: Tensor, coefficients: Tensor, start: Tensor, ranks: Sequence[int]) -> Tensor:
    """(R, N) predicted classes of classifiers that see more and more components; one sum over all of them.

    Args:
        components: (N, D) coordinates of the features.
        coefficients: (D, C) what each component adds to the scores.
        start: (C,) scores without any component.
        ranks: how many components each classifier sees, rising, from 0.
    """
    found = torch.empty(len(ranks), len(components), dtype=torch.int64, device=components.device)
    # A few ranks' scores for a few examples stay in the cache.
    for first in range(0, len(components), SWEPT_EXAMPLES):
        part = components[first : first + SWEPT_EXAMPLES].T.contiguous()
        last, before = start[:, None].expand(-1, part.shape[1]), 0
        for place in range(0, len(ranks), SWEPT_RANKS):
            scores = []
            for rank in ranks[place : place + SWEPT_RANKS]:
                last = torch.addmm(last, coefficients[before:rank].T, part[before:rank])
                scores.append(last)
                before = rank
            found[place : place + len(scores), first : first + part.shape[1]] = _greatest(torch.stack(scores))
    return found


def _greatest(scores: Tensor) -> Tensor:
    """(R, N) positions of the first greatest of (R, C, N) scores; torch's own search is several times slower this way round."""
    best, place = scores[:, 0].clone(), torch.zeros_like(scores[:, 0], dtype=torch.int64)
    for each in range(1, scores.shape[1]):
        place.masked_fill_(scores[:, each] > best, each)
        torch.maximum(best, scores[:, each], out=best)
    return place


def effective_rank(values: Tensor) -> float:
    """Exponential of the entropy of (D,) eigenvalues (Roy and Vetterli 2007), from 1 to D; 0 where nothing varies."""
    return float(_entropy(values).exp()) if bool(values.sum() > 0) else 0.0


def participation_ratio(values: Tensor) -> float:
    """Squared sum over sum of squares of (D,) eigenvalues, from 1 to D; 0 where nothing varies."""
    return float(values.sum() ** 2 / values.square().sum()) if bool(values.sum() > 0) else 0.0


def explaining(values: Tensor, share: float) -> int:
    """How many of (D,) falling eigenvalues make up a share of their sum."""
    return int((values.cumsum(0) < share * values.sum() * (1 - 1e-12)).sum()) + 1


def _entropy(weights: Tensor) -> Tensor:
    shares = weights.double() / weights.double().sum()
    entropy: Tensor = -torch.special.xlogy(shares, shares).sum()
    return entropy


def singular_value_entropy(singular: Tensor) -> float:
    """Entropy in nats of (r,) singular values as shares of their sum (Chen et al. 2024); large is flat. 0 for zeros."""
    return float(_entropy(singular)) if bool(singular.sum() > 0) else 0.0


def largest_singular_value_ratio(singular: Tensor) -> float:
    """Minus the log of the first singular value's share of their sum (Chen et al. 2024).

    Mind the sign: a larger value is a weaker dominant direction. 0 for zeros.
    """
    return float(-(singular.double().max() / singular.double().sum()).log()) if bool(singular.sum() > 0) else 0.0


PREPROCESSING = ("raw", "l2", "l2_rowmean", "l2_colmean")
"""What is done to features before their singular values are taken; numbers from different ones do not compare."""


def singular_values(features: Tensor, preprocess: str = "l2_rowmean") -> Tensor:
    """Singular values of (N, D) features, in float64.

    Args:
        features: finite.
        preprocess: as in `PREPROCESSING`: rows as they are or of norm one, then minus each row's or each column's mean.
    """
    check_features(features)
    matrix = features.double()
    if preprocess != "raw":
        matrix = functional.normalize(matrix, dim=1)
    if preprocess == "l2_rowmean":
        matrix = matrix - matrix.mean(1, keepdim=True)
    if preprocess == "l2_colmean":
        matrix = matrix - matrix.mean(0)
    singular: Tensor = torch.linalg.svdvals(matrix)
    return singular
