"""Score detectors of mislabeled examples against the label status."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from noisybench.evaluation import metrics
from noisybench.records.evidence import DetectorScores


def score_detectors(
    detectors: Mapping[str, DetectorScores],
    label_status: NDArray[np.int8],
    roc_curves: dict[str, list[NDArray[np.float32]]],
) -> dict[str, dict[str, float | None]]:
    """Return the metrics of every detector, and the agreement of every pair of detectors.

    Args:
        detectors: (N,) scores and flags by detector.
        label_status: (N,) index into `LABEL_STATUS`.
        roc_curves: (51,) ROC curves of earlier epochs by detector; those of this epoch are appended.

    Returns:
        Metrics by detector as from `metrics.score_detector`; ``A_with_B`` holds the correlation of the flags of A and B.

    Example:
        >>> scores = DetectorScores(np.array([0.1, 0.9, 0.2]), np.array([False, True, False]), None)
        >>> curves = {}
        >>> score_detectors({"small_loss": scores}, np.array([0, 1, 0], np.int8), curves)["small_loss"]["noise_auroc"]
        1.0
        >>> len(curves["small_loss"])
        1
    """
    measures = {
        name: metrics.score_detector(detector.score, detector.flagged, label_status)
        for name, detector in detectors.items()
    }
    for name, detector in detectors.items():
        curve = metrics.roc_curve(detector.score, label_status)
        if curve is not None:
            roc_curves.setdefault(name, []).append(curve)
    for (name, first), (other, second) in itertools.combinations(detectors.items(), 2):
        measures[f"{name}_with_{other}"] = {"correlation": metrics.correlation(first.flagged, second.flagged)}
    return measures
