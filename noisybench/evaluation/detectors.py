"""Scores of detectors of mislabeled examples: pure functions of scores, flags and the label status."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from noisybench.data.targets import CLEAN, OUT_OF_DISTRIBUTION
from noisybench.evaluation import metrics
from noisybench.evaluation.metrics import MISLABELED, Floats, fraction
from noisybench.records.evidence import DetectorScores
from noisybench.records.schema import Detection


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
        Metrics by detector as from `score_detector`; ``A_with_B`` holds the correlation of the flags of A and B.

    Example:
        >>> scores = DetectorScores(np.array([0.1, 0.9, 0.2]), np.array([False, True, False]), None)
        >>> curves = {}
        >>> score_detectors({"small_loss": scores}, np.array([0, 1, 0], np.int8), curves)["small_loss"]["noise_auroc"]
        1.0
        >>> len(curves["small_loss"])
        1
    """
    measures = {
        name: score_detector(detector.score, detector.flagged, label_status) for name, detector in detectors.items()
    }
    for name, detector in detectors.items():
        curve = metrics.roc_curve(detector.score, label_status)
        if curve is not None:
            roc_curves.setdefault(name, []).append(curve)
    for (name, first), (other, second) in itertools.combinations(detectors.items(), 2):
        measures[f"{name}_with_{other}"] = {"correlation": correlation(first.flagged, second.flagged)}
    return measures


def score_detector(score: Floats, flagged: NDArray[np.bool_], status: NDArray[np.int8]) -> dict[str, float | None]:
    """Return the metrics of a detector of incorrect labels.

    Balanced accuracy is the mean of the fraction of incorrect labels that are flagged (recall) and the fraction of correct
    labels that are not. Average precision, precision and recall count ID and OOD noise alike.

    Args:
        score: (N,) score of the detector, higher where the label is more likely incorrect.
        flagged: (N,) whether the detector treats the label as incorrect.
        status: (N,) index into `LABEL_STATUS`; labels of unknown status are ignored.

    Returns:
        The values of `auroc_by_kind`, ``average_precision``, ``precision``, ``recall``, ``balanced_accuracy``,
        ``ood_balanced_accuracy``, ``flagged_fraction`` and ``missed_at_true_rate``; None where a value is undefined.

    Example:
        >>> status = np.array([0, 0, 1, 1], dtype=np.int8)
        >>> scores = score_detector(np.array([0.1, 0.6, 0.5, 0.9]), np.array([False, False, False, True]), status)
        >>> scores["noise_auroc"], scores["precision"], scores["recall"], scores["balanced_accuracy"]
        (0.75, 1.0, 0.5, 0.75)
    """
    from sklearn.metrics import average_precision_score

    scores = metrics.auroc_by_kind(score, status)
    known = status <= OUT_OF_DISTRIBUTION
    mislabeled = status[known] != CLEAN
    # scikit-learn warns, instead of returning NaN, where there is nothing to find.
    scores["average_precision"] = float(average_precision_score(mislabeled, score[known])) if mislabeled.any() else None
    scores["precision"], scores["recall"] = fraction(mislabeled[flagged[known]]), fraction(flagged[known][mislabeled])
    specificity = fraction(~flagged[status == CLEAN])
    for name, statuses in (("balanced_accuracy", MISLABELED), ("ood_balanced_accuracy", (OUT_OF_DISTRIBUTION,))):
        recall = fraction(flagged[np.isin(status, statuses)])
        scores[name] = None if specificity is None or recall is None else (specificity + recall) / 2
    scores["missed_at_true_rate"] = missed_at_true_rate(score[known], mislabeled)
    return {**scores, "flagged_fraction": float(flagged.mean())}


def missed_at_true_rate(score: Floats, mislabeled: NDArray[np.bool_]) -> float | None:
    """Return the fraction of incorrect labels that are missed if as many labels are flagged as are incorrect.

    The labels of highest score are flagged. Among labels that tie at the threshold, which ones are flagged is a matter of
    their order, so that the expected value over all orders is returned. At this number of flags the precision and the recall
    are the same, one minus the returned fraction (the R-precision of information retrieval).

    Args:
        score: (N,) score, higher where the label is more likely incorrect.
        mislabeled: (N,) whether the label is incorrect.

    Returns:
        Fraction in [0, 1]; None if all labels are correct or all are incorrect.

    Example:
        >>> missed_at_true_rate(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False]))
        0.25
    """
    count = int(mislabeled.sum())
    if not 0 < count < len(mislabeled):
        return None
    threshold = np.partition(score, -count)[-count]
    above, tied = score > threshold, score == threshold
    found_in_ties = (count - above.sum()) * mislabeled[tied].mean()
    return float(1 - (mislabeled[above].sum() + found_in_ties) / count)


def correlation(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float | None:
    """Return the phi coefficient of two sets of flags, in [-1, 1]; None where one of them is constant.

    Example:
        >>> round(correlation(np.array([True, False, True]), np.array([True, False, True])), 6)
        1.0
    """
    # A constant has no variance, for which NumPy returns NaN with a warning.
    if first.all() or second.all() or not first.any() or not second.any():
        return None
    return float(np.corrcoef(first, second)[0, 1])


def score_detection(label_quality: Floats, status: NDArray[np.int8]) -> Detection:
    """Return all metrics of detecting incorrect labels by their label quality.

    Args:
        label_quality: (N,) probability that the label is correct.
        status: (N,) index into `LABEL_STATUS`; labels of unknown status are ignored.

    Example:
        >>> detection = score_detection(np.array([0.9, 0.8, 0.1]), np.array([0, 0, 1], dtype=np.int8))
        >>> detection.auroc, detection.f1
        (1.0, 1.0)
    """
    from sklearn.metrics import average_precision_score

    flagged = metrics.flag_labels(label_quality)
    known = status <= OUT_OF_DISTRIBUTION
    mislabeled, quality = status[known] != CLEAN, label_quality[known]
    if mislabeled.all() or not mislabeled.any():
        return Detection(None, None, None, float(flagged.mean()))
    aurocs = metrics.auroc_by_kind(-label_quality, status)
    curve = metrics.roc_curve(-label_quality, status)
    return Detection(
        auroc=aurocs["noise_auroc"],
        average_precision=float(average_precision_score(mislabeled, -quality)),
        f1=float(2 * (flagged[known] & mislabeled).sum() / (flagged[known].sum() + mislabeled.sum())),
        flagged_fraction=float(flagged.mean()),
        id_auroc=aurocs["id_noise_auroc"] if (status == OUT_OF_DISTRIBUTION).any() else None,
        ood_auroc=aurocs["ood_auroc"],
        roc=None if curve is None else [round(float(rate), 4) for rate in curve],
        missed_at_true_rate=missed_at_true_rate(-quality, mislabeled),
    )
