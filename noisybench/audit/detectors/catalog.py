"""All detectors by name.

Each function of `DETECTORS` returns `DetectorResult`: scores that are higher where the label is more likely incorrect, and
flags where the detector has a threshold of its own. Keyword arguments without a default are what the detector needs. The
fidelity cards lie beside the detectors.
"""

from __future__ import annotations

from collections.abc import Callable

from noisybench.audit.detectors import attributions, cnlcu, dynamics, features, neighbors, predictions
from noisybench.audit.detectors.result import DetectorResult
from noisybench.config.fidelity import Fidelity

DETECTORS: dict[str, Callable[..., DetectorResult]] = {
    function.__name__: function
    for function in (
        dynamics.aum, cnlcu.cnlcu, predictions.confident_joint, features.data_oob, neighbors.deep_knn, predictions.el2n,
        predictions.entropy, features.fine, dynamics.forgetting, features.mahalanobis, predictions.margin, neighbors.neighbors,
        predictions.posterior, predictions.self_confidence, attributions.self_influence, neighbors.simifeat,
        dynamics.small_loss, attributions.tracin, attributions.trust, dynamics.vog,
    )
}  # fmt: skip
"""Detectors by name."""

CARDS: dict[str, Fidelity] = {
    name: card
    for module in (attributions, cnlcu, dynamics, features, neighbors, predictions)
    for name, card in module.CARDS.items()
}
"""Fidelity cards by detector."""
