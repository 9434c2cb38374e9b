"""Detection and calibration."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noisybench.data.label_set import CLEAN, IN_DISTRIBUTION, OUT_OF_DISTRIBUTION
from noisybench.records.schema import Detection, ProbeMetrics

Floats = NDArray[np.float32] | NDArray[np.float64]


def noise_auroc(belief: Floats, wrong: NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve of low belief against wrong labels; None where one kind is missing.

    It is the share of pairs of a wrong and a right label in which the wrong one has less belief, ties counting half, which
    follows from ranks (Mann and Whitney 1947) without a curve.

    Args:
        belief: (N,) probability that the label is right.
        wrong: (N,) whether it is wrong.
    """
    from scipy.stats import rankdata

    count = int(wrong.sum())
    right = len(wrong) - count
    if not count or not right:
        return None
    return float((rankdata(-belief)[wrong].sum() - count * (count + 1) / 2) / (count * right))


def detection_by_state(score: Floats, states: NDArray[np.int8]) -> dict[str, float | None]:
    """AUROC of a score that is higher for wrong labels, for each kind of wrong label against right ones.

    Args:
        score: (N,).
        states: (N,) positions in `labels.STATES`; unknown ones count nowhere.

    Returns:
        ``any`` counts both kinds as wrong; ``label`` (wrong label on an image of a class) and ``outsider`` (image of
        none of the classes) leave the other kind out. None where one side is missing.
    """
    kinds = {
        "any": (IN_DISTRIBUTION, OUT_OF_DISTRIBUTION),
        "label": (IN_DISTRIBUTION,),
        "outsider": (OUT_OF_DISTRIBUTION,),
    }
    found = {}
    for name, kind in kinds.items():
        wrong = np.isin(states, kind)
        counted = wrong | (states == CLEAN)
        found[name] = noise_auroc(-score[counted], wrong[counted])
    return found


def score_detector(score: Floats, flagged: NDArray[np.bool_], states: NDArray[np.int8]) -> dict[str, float | None]:
    """What a detector is worth: AUROC by kind, average precision, and its flags' rate, precision, recall and balance.

    Balanced accuracy is the mean of the share of wrong labels that are flagged (recall) and of right ones that are not. As
    for the AUROC, ``any`` counts both kinds of wrong labels, ``outsider`` out-of-distribution images alone; average
    precision, precision and recall count both.
    """
    from sklearn.metrics import average_precision_score

    measured = {f"auroc_{name}": value for name, value in detection_by_state(score, states).items()}
    known = states <= OUT_OF_DISTRIBUTION
    wrong = states[known] != CLEAN
    measured["average_precision"] = float(average_precision_score(wrong, score[known])) if wrong.any() else None
    measured["precision"], measured["recall"] = share(wrong[flagged[known]]), share(flagged[known][wrong])
    right = share(~flagged[states == CLEAN])
    for name, kinds in (("any", (IN_DISTRIBUTION, OUT_OF_DISTRIBUTION)), ("outsider", (OUT_OF_DISTRIBUTION,))):
        found = share(flagged[np.isin(states, kinds)])
        measured[f"balanced_accuracy_{name}"] = None if right is None or found is None else (right + found) / 2
    return {**measured, "flagged": float(flagged.mean())}


def correlation(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float | None:
    """Phi coefficient of two sets of flags, in [-1, 1]; None where one of them is constant."""
    if first.all() or second.all() or not first.any() or not second.any():
        return None
    return float(np.corrcoef(first, second)[0, 1])


ROC_GRID = np.linspace(0, 1, 51)
"""False positive rates at which ROC curves are kept."""


def roc_curve(score: Floats, states: NDArray[np.int8]) -> NDArray[np.float32] | None:
    """(51,) true positive rates on `ROC_GRID`, both kinds of wrong labels against right ones; None without either side."""
    from sklearn import metrics

    known = states <= OUT_OF_DISTRIBUTION
    wrong = states[known] != CLEAN
    if wrong.all() or not wrong.any():
        return None
    false, true, _ = metrics.roc_curve(wrong, score[known])
    return np.asarray(np.interp(ROC_GRID, false, true), dtype=np.float32)


def detect(belief: Floats, states: NDArray[np.int8]) -> Detection:
    """All detection metrics of (N,) belief against (N,) positions in `labels.STATES`."""
    from sklearn.metrics import average_precision_score

    flagged = flag(belief)
    known = states <= OUT_OF_DISTRIBUTION
    wrong, believed = states[known] != CLEAN, belief[known]
    if wrong.all() or not wrong.any():
        return Detection(None, None, None, float(flagged.mean()))
    by_kind = detection_by_state(-belief, states)
    outsiders = (states == OUT_OF_DISTRIBUTION).any()
    curve = roc_curve(-belief, states)
    return Detection(
        auroc=by_kind["any"],
        average_precision=float(average_precision_score(wrong, -believed)),
        f1=float(2 * (flagged[known] & wrong).sum() / (flagged[known].sum() + wrong.sum())),
        flagged=float(flagged.mean()),
        label_auroc=by_kind["label"] if outsiders else None,
        outsider_auroc=by_kind["outsider"],
        roc=None if curve is None else [round(float(each), 4) for each in curve],
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
    # Where all three are given, scikit-learn does not look for a start by k-means, which takes six times as long as the fit.
    start = {
        "means_init": [[0.0], [1.0]],
        "weights_init": [0.5, 0.5],
        "precisions_init": np.full((2, 1, 1), 1 / (scaled.var() + 5e-4)),
    }
    mixture = GaussianMixture(2, reg_covar=5e-4, max_iter=200, random_state=0, **start)
    component = mixture.fit_predict(scaled)
    return np.asarray(component == mixture.means_.ravel().argmax())


LEAST = 1e-12
"""Probability below which losses are not told apart, so that certain mistakes have a finite one."""


def cross_entropy(probabilities: Floats, targets: NDArray[np.int64]) -> float:
    """Mean nats of the targets' probabilities.

    Args:
        probabilities: (N, C).
        targets: (N,).
    """
    chosen = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    return float(-np.log(np.maximum(chosen, LEAST)).mean())


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
    return float(np.abs(calibration_gaps(confidence, right, bins)).sum() / len(targets))


def calibration_gaps(confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int) -> NDArray[np.float64]:
    """(bins,) sums of right minus confidence by bins of the confidence; those of portions add up."""
    # Bins are (low, high], so that a confidence of exactly 1 has a place.
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return np.asarray(np.bincount(place, weights=right - confidence, minlength=bins), dtype=np.float64)


def score_classifier(
    training: NDArray[np.int64],
    held_out: NDArray[np.int64],
    test: NDArray[np.int64],
    clean: NDArray[np.int64],
    observed: NDArray[np.int64],
    held_out_observed: NDArray[np.int64],
    test_targets: NDArray[np.int64],
    states: NDArray[np.int8],
) -> ProbeMetrics:
    """What predictions for the (N,) training, (V,) held-out and (M,) test inputs are worth against their targets.

    Args:
        training: predicted classes of the training inputs; `held_out` and `test` likewise.
        clean: (N,) best known targets.
        observed: (N,) observed targets; `held_out_observed` (V,) likewise.
        test_targets: (M,) clean targets.
        states: (N,) positions in `labels.STATES`.
    """
    wrong = np.isin(states, (IN_DISTRIBUTION, OUT_OF_DISTRIBUTION))
    return ProbeMetrics(
        test_accuracy=float((test == test_targets).mean()),
        noisy_val_accuracy=share(held_out == held_out_observed),
        clean_accuracy=share((training == clean)[clean >= 0]),
        noisy_accuracy=float((training == observed).mean()),
        memorized_fraction=share((training == observed)[wrong]),
        recovered_fraction=share((training == clean)[states == IN_DISTRIBUTION]),
    )


def label_directions(
    clean: NDArray[np.int64], observed: NDArray[np.int64], num_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What of the labels is signal and what is noise, each (N, C).

    Returns:
        One-hot clean targets minus their mean, and one-hot observed targets minus their mean among examples of the same
        clean class. Rows of examples without a known class are zero.
    """
    known = clean >= 0
    eye = np.eye(num_classes)
    signal, noise = np.zeros((len(clean), num_classes)), np.zeros((len(clean), num_classes))
    signal[known] = eye[clean[known]] - eye[clean[known]].mean(0)
    for each in np.unique(clean[known]):
        own = clean == each
        noise[own] = eye[observed[own]] - eye[observed[own]].mean(0)
    return signal, noise


def share(chosen: NDArray[np.bool_]) -> float | None:
    """Share of true entries; None of nothing."""
    return float(chosen.mean()) if len(chosen) else None
