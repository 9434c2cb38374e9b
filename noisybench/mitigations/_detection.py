"""Detector of label noise shared by several mitigations: a hyperplane in feature space."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

MIN_EXAMPLES_PER_SIDE = 10
"""Smallest number of examples on each side of a hyperplane that is fitted between them."""


def can_be_separated(flags: Tensor) -> bool:
    """Return True if both sides of (N,) flags have enough examples to fit a hyperplane between them."""
    count = int(flags.sum())
    return min(count, len(flags) - count) >= MIN_EXAMPLES_PER_SIDE


def linear_separation(features: Tensor, flags: Tensor, support: Tensor | None = None) -> Tensor:
    """Return the (N,) probability of being flagged according to a hyperplane in feature space.

    Features are normalized per example and then standardized per dimension. An unregularized logistic regression with
    balanced classes is fitted to the flags; errors of the flags that have no direction in feature space average out
    (Albert et al. 2024).

    Args:
        features: (N, F) features.
        flags: (N,) bool; `can_be_separated` holds for them, or for those of the support.
        support: positions of the examples to fit on; all by default.
    """
    from sklearn.linear_model import LogisticRegression

    points = functional.normalize(features.float(), dim=1)
    deviation = points.std(0)
    # A constant dimension carries no information; dividing by its deviation would amplify rounding errors.
    points = (points - points.mean(0)) / torch.where(deviation > 1e-7, deviation, torch.ones_like(deviation))
    array, labels = points.cpu().numpy(), flags.cpu().numpy()
    fit_on = slice(None) if support is None else support.cpu().numpy()
    # An infinite C turns regularization off; the `penalty` for that differs between releases of scikit-learn.
    regression = LogisticRegression(C=np.inf, class_weight="balanced", max_iter=1000, solver="lbfgs")
    with warnings.catch_warnings():
        # On separable data the solver stops at its last iteration, which is sufficient: only the side is used.
        warnings.simplefilter("ignore")
        regression.fit(array[fit_on], labels[fit_on])
    return torch.from_numpy(regression.predict_proba(array)[:, 1]).to(features)
