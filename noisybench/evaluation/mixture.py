"""Two-component Gaussian mixture of losses, which divides labels into probably correct and probably incorrect ones."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Components = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
"""Weights, means and standard deviations of two components, the one with the smaller mean first."""


@dataclass
class Mixture:
    """Two Gaussian components fitted to losses.

    Attributes:
        scaled: (N,) losses, scaled to [0, 1].
        high: (N,) posterior probability of the component with the larger mean.
        components: parameters of the components; None if all losses are equal, so that nothing can be fitted.
    """

    scaled: Tensor
    high: Tensor
    components: Components | None


def two_components(losses: Tensor, rescale: bool = True) -> Mixture:
    """Fit a two-component Gaussian mixture to losses for small-loss selection (Arazo et al. 2019, Li et al. 2020).

    The settings are those of DivideMix, PLS and LSA: at most ten iterations, variances regularized by 5e-4. If all
    losses are equal, the posterior of the component with the larger mean is zero everywhere.

    Args:
        losses: (N,) finite losses.
        rescale: scale the losses to [0, 1]; False for means of losses that have been scaled, whose range is smaller.
    """
    from sklearn.mixture import GaussianMixture

    low, high = losses.min(), losses.max()
    # Equal losses would make the min-max scaling 0 / 0.
    if not bool(high - low > 1e-9):
        return Mixture(torch.zeros_like(losses), torch.zeros_like(losses), None)
    scaled = (losses - low) / (high - low) if rescale else losses
    values = scaled.double().cpu().numpy()[:, None]
    # `reg_covar` is in squared units of the scaled losses. The fixed random state gives a resumed run the same flags.
    mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=0)
    with warnings.catch_warnings():
        # Ten iterations are part of the method, whether they converge or not.
        warnings.simplefilter("ignore")
        mixture.fit(values)
    # The fit returns the components in no fixed order; only their means identify the one of high losses.
    order = mixture.means_.ravel().argsort()
    posterior = mixture.predict_proba(values)[:, order[1]]
    weights, means, variances = (
        parameter.ravel()[order] for parameter in (mixture.weights_, mixture.means_, mixture.covariances_)
    )
    first, second = ((float(weights[n]), float(means[n]), float(np.sqrt(variances[n]))) for n in range(2))
    components = ((first[0], second[0]), (first[1], second[1]), (first[2], second[2]))
    return Mixture(scaled, torch.from_numpy(posterior).to(losses), components)
