"""All detectors by name.

Each function of `DETECTORS` returns `DetectorResult`: scores that are higher where the label is more likely incorrect, and
flags where the detector has a threshold of its own. Keyword arguments without a default are what the detector needs.
"""

from __future__ import annotations

from collections.abc import Callable

from noisybench.audit.detectors.attributions import self_influence, tracin, trust
from noisybench.audit.detectors.dynamics import aum, cnlcu, forgetting, small_loss, vog
from noisybench.audit.detectors.features import data_oob, fine, mahalanobis
from noisybench.audit.detectors.neighbors import deep_knn, neighbors, simifeat
from noisybench.audit.detectors.predictions import (
    confident_joint,
    el2n,
    entropy,
    margin,
    posterior,
    self_confidence,
)
from noisybench.audit.detectors.result import DetectorResult

DETECTORS: dict[str, Callable[..., DetectorResult]] = {
    function.__name__: function
    for function in (
        aum, cnlcu, confident_joint, data_oob, deep_knn, el2n, entropy, fine, forgetting, mahalanobis, margin, neighbors,
        posterior, self_confidence, self_influence, simifeat, small_loss, tracin, trust, vog,
    )
}  # fmt: skip
"""Detectors by name."""
