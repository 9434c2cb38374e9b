"""Detectors of wrong labels that several mitigations share: a mixture on the losses, a hyperplane between features."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

SMALLEST_SIDE = 10
"""With fewer examples on one side there is nothing to separate."""

Components = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
"""Weights, means and deviations of two components, the one with the smaller mean first."""


@dataclass
class Mixture:
    """Two Gaussian components fitted to losses.

    Attributes:
        scaled: (N,) losses, brought to [0, 1] by their smallest and greatest.
        high: (N,) posterior of the component with the greater mean.
        components: None where all losses are equal, so that there is nothing to fit.
    """

    scaled: Tensor
    high: Tensor
    components: Components | None


def two_components(losses: Tensor) -> Mixture:
    """Fit a mixture to (N,) finite losses, as is usual for small-loss selection (Arazo et al. 2019, Li et al. 2020).

    The settings are those of DivideMix, PLS and LSA: ten iterations at most, variances regularised by 5e-4. Where all
    losses are equal the posterior is zero everywhere.
    """
    from sklearn.mixture import GaussianMixture

    low, high = losses.min(), losses.max()
    if not bool(high - low > 1e-9):
        return Mixture(torch.zeros_like(losses), torch.zeros_like(losses), None)
    scaled = (losses - low) / (high - low)
    values = scaled.double().cpu().numpy()[:, None]
    mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ten iterations are part of the method, converged or not
        mixture.fit(values)
    order = mixture.means_.ravel().argsort()
    posterior = mixture.predict_proba(values)[:, order[1]]
    weights, means, variances = (
        each.ravel()[order] for each in (mixture.weights_, mixture.means_, mixture.covariances_)
    )
    first, second = ((float(weights[n]), float(means[n]), float(np.sqrt(variances[n]))) for n in range(2))
    components = ((first[0], second[0]), (first[1], second[1]), (first[2], second[2]))
    return Mixture(scaled, torch.from_numpy(posterior).to(losses), components)


def can_be_separated(flags: Tensor) -> bool:
    """Whether both sides of (N,) flags have enough members to fit a hyperplane between them."""
    count = int(flags.sum())
    return min(count, len(flags) - count) >= SMALLEST_SIDE


def linear_separation(features: Tensor, flags: Tensor, chosen: Tensor | None = None) -> Tensor:
    """(N,) probability of being flagged, by the side of a hyperplane between features on which an example lies.

    Features are normalised per example and then standardised per dimension. An unregularised logistic regression with
    balanced classes is fitted to the flags; where these are wrong without a direction, the plane averages it out
    (Albert et al. 2024).

    Args:
        features: (N, F).
        flags: (N,) bool; `can_be_separated` holds for them, or for the chosen ones.
        chosen: positions of the examples to fit on; all by default.
    """
    from sklearn.linear_model import LogisticRegression

    points = functional.normalize(features.float(), dim=1)
    deviation = points.std(0)
    # A dimension that never changes tells nothing; its rounding errors must not be blown up.
    points = (points - points.mean(0)) / torch.where(deviation > 1e-7, deviation, torch.ones_like(deviation))
    array, labels = points.cpu().numpy(), flags.cpu().numpy()
    fit_on = slice(None) if chosen is None else chosen.cpu().numpy()
    regression = LogisticRegression(C=np.inf, class_weight="balanced", max_iter=1000, solver="lbfgs")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on separable data it ends at its last iteration: only the side counts
        regression.fit(array[fit_on], labels[fit_on])
    return torch.from_numpy(regression.predict_proba(array)[:, 1]).to(features)
