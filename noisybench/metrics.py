"""Detection and calibration."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noisybench.records import Detection

Floats = NDArray[np.float32] | NDArray[np.float64]


def detection_auroc(belief: Floats, wrong: NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve of low belief against wrong labels; None where one kind is missing.

    Args:
        belief: (N,) probability that the label is right.
        wrong: (N,) whether it is wrong.
    """
    from sklearn.metrics import roc_auc_score

    return None if wrong.all() or not wrong.any() else float(roc_auc_score(wrong, -belief))


def detect(belief: Floats, wrong: NDArray[np.bool_]) -> Detection:
    """All detection metrics of (N,) belief against (N,) truth."""
    from sklearn.metrics import average_precision_score, f1_score

    flagged = flag(belief)
    if wrong.all() or not wrong.any():
        return Detection(None, None, None, float(flagged.mean()))
    return Detection(
        auroc=detection_auroc(belief, wrong),
        average_precision=float(average_precision_score(wrong, -belief)),
        f1=float(f1_score(wrong, flagged, zero_division=0.0)),
        flagged=float(flagged.mean()),
    )


def flag(belief: Floats) -> NDArray[np.bool_]:
    """Labels to distrust, chosen without any privileged data.

    A two-component Gaussian mixture is fitted to -log belief, as is usual for losses (Arazo et al. 2019, Li et al.
    2020); flagged is what more likely belongs to the component with the greater mean. Where all beliefs are equal
    nothing is flagged.
    """
    from sklearn.mixture import GaussianMixture

    loss = -np.log(np.clip(belief.astype(np.float64), 1e-12, 1.0))
    low, high = loss.min(), loss.max()
    if high - low < 1e-9:
        return np.zeros(len(loss), dtype=bool)
    scaled = ((loss - low) / (high - low))[:, None]
    mixture = GaussianMixture(2, reg_covar=5e-4, max_iter=200, means_init=[[0.0], [1.0]], random_state=0)
    component = mixture.fit_predict(scaled)
    return np.asarray(component == mixture.means_.ravel().argmax())


def calibration_error(probabilities: Floats, targets: NDArray[np.int64], bins: int = 15) -> float:
    """Expected calibration error (Naeini et al. 2015; Guo et al. 2017).

    Args:
        probabilities: (N, C).
        targets: (N,).
        bins: equal-width bins of the highest probability.

    Returns:
        Mean over examples of |accuracy - confidence| of their bin, in [0, 1].
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == targets
    # Bins are (low, high], so that a confidence of exactly 1 has a place.
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    difference = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(difference).sum() / len(targets))


def share(chosen: NDArray[np.bool_]) -> float | None:
    """Share of true entries; None of nothing."""
    return float(chosen.mean()) if len(chosen) else None
