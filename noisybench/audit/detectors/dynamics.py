"""Detectors that read what was recorded while training: losses, margins and correct predictions of epochs."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from noisybench.audit.detectors.result import DetectorResult, Floats
from noisybench.evaluation.mixture import two_components


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
