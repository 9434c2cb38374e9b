"""Metrics of ranking, calibration and memorization.

These functions take NumPy arrays and are written by hand where `torchmetrics` is slower or less exact: its binary AUROC takes
2 to 4 times as long on 5,000 to 50,000 examples, its results are in single precision, and it applies a sigmoid to scores
outside [0, 1]; its calibration error is as fast, but in single precision as well.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noisybench.data.targets import CLEAN, IN_DISTRIBUTION, OUT_OF_DISTRIBUTION
from noisybench.records.schema import ProbeMetrics

Floats = NDArray[np.float32] | NDArray[np.float64]

MISLABELED = (IN_DISTRIBUTION, OUT_OF_DISTRIBUTION)
"""Label statuses that count as mislabeled."""

ROC_GRID = np.linspace(0, 1, 51)
"""False positive rates at which ROC curves are stored."""

MIN_PROBABILITY = 1e-12
"""Lower bound of probabilities in losses, so that a certain mistake has a finite loss."""


def fraction(mask: NDArray[np.bool_]) -> float | None:
    """Return the fraction of true entries; None for an empty array.

    Example:
        >>> fraction(np.array([True, False, False, True])), fraction(np.array([], dtype=bool))
        (0.5, None)
    """
    return float(mask.mean()) if len(mask) else None


def noise_auroc(label_quality: Floats, mislabeled: NDArray[np.bool_]) -> float | None:
    """Return the area under the ROC curve of low label quality against incorrect labels; None where one kind is missing.

    It is the fraction of pairs of an incorrect and a correct label in which the incorrect one has the lower quality, with
    ties counted half (Mann and Whitney, 1947).

    Args:
        label_quality: (N,) probability that the label is correct.
        mislabeled: (N,) whether the label is incorrect.

    Example:
        >>> noise_auroc(np.array([0.9, 0.2, 0.6, 0.7]), np.array([False, True, False, True]))
        0.75
    """
    from scipy.stats import rankdata

    num_mislabeled = int(mislabeled.sum())
    num_correct = len(mislabeled) - num_mislabeled
    if not num_mislabeled or not num_correct:
        return None
    # The sum of ranks counts the pairs within the mislabeled examples too; these are subtracted.
    rank_sum = rankdata(-label_quality)[mislabeled].sum()
    return float((rank_sum - num_mislabeled * (num_mislabeled + 1) / 2) / (num_mislabeled * num_correct))


def auroc_by_kind(score: Floats, status: NDArray[np.int8]) -> dict[str, float | None]:
    """Return the AUROC of a score that is higher for incorrect labels, for each kind of label noise.

    Args:
        score: (N,) score of each label.
        status: (N,) index into `LABEL_STATUS`; labels of unknown status are ignored.

    Returns:
        ``noise_auroc`` for both kinds against correct labels, ``id_noise_auroc`` for incorrect labels of in-distribution
        (ID) images, and ``ood_auroc`` for out-of-distribution (OOD) images. Each of the latter two leaves out the other
        kind. None where one side is missing.

    Example:
        >>> auroc_by_kind(np.array([0.1, 0.8, 0.9]), np.array([0, 1, 2], dtype=np.int8))
        {'noise_auroc': 1.0, 'id_noise_auroc': 1.0, 'ood_auroc': 1.0}
    """
    kinds = {
        "noise_auroc": MISLABELED,
        "id_noise_auroc": (IN_DISTRIBUTION,),
        "ood_auroc": (OUT_OF_DISTRIBUTION,),
    }
    has_ood = bool((status == OUT_OF_DISTRIBUTION).any())
    aurocs: dict[str, float | None] = {}
    for name, statuses in kinds.items():
        if name == "id_noise_auroc" and not has_ood:
            # The ranking of all labels takes most of the time, and would be the same again.
            aurocs[name] = aurocs["noise_auroc"]
            continue
        mislabeled = np.isin(status, statuses)
        # The other kind of noise is neither positive nor negative, and would distort the ranking if it stayed in.
        counted = mislabeled | (status == CLEAN)
        aurocs[name] = noise_auroc(-score[counted], mislabeled[counted])
    return aurocs


def roc_curve(score: Floats, status: NDArray[np.int8]) -> NDArray[np.float32] | None:
    """Return the ROC curve of a score against ID and OOD noise together.

    Args:
        score: (N,) score, higher where the label is more likely incorrect.
        status: (N,) index into `LABEL_STATUS`; labels of unknown status are ignored.

    Returns:
        (51,) true positive rates on `ROC_GRID`; None where all known labels are correct or all are incorrect.

    Example:
        >>> roc_curve(np.array([0.1, 0.9]), np.array([0, 1], dtype=np.int8))[-1]
        np.float32(1.0)
    """
    from sklearn import metrics

    known = status <= OUT_OF_DISTRIBUTION
    mislabeled = status[known] != CLEAN
    if mislabeled.all() or not mislabeled.any():
        return None
    false_positive_rate, true_positive_rate, _ = metrics.roc_curve(mislabeled, score[known])
    # The exact curve has up to N points; a common grid makes the curves of all epochs comparable and small.
    return np.asarray(np.interp(ROC_GRID, false_positive_rate, true_positive_rate), dtype=np.float32)


def flag_labels(label_quality: Floats) -> NDArray[np.bool_]:
    """Return which labels to distrust, without any privileged information.

    A two-component Gaussian mixture is fitted to -log label quality, as is usual for losses (Arazo et al., 2019; Li et al.,
    2020). Labels that more likely belong to the component with the greater mean are flagged; none if all are equal.

    Args:
        label_quality: (N,) probability that the label is correct.

    Example:
        >>> flag_labels(np.array([0.9, 0.95, 0.92, 0.01, 0.02]))
        array([False, False, False,  True,  True])
    """
    from sklearn.mixture import GaussianMixture

    # The clip bounds the loss of an impossible label, which would otherwise be infinite.
    loss = -np.log(np.clip(label_quality.astype(np.float64), 1e-12, 1.0))
    low, high = loss.min(), loss.max()
    if high - low < 1e-9:
        return np.zeros(len(loss), dtype=bool)
    # Losses in [0, 1] give the start and `reg_covar` the same meaning for every network.
    scaled = ((loss - low) / (high - low))[:, None]
    # With a complete start scikit-learn skips its k-means initialization, which takes six times as long as the fit.
    start = {
        "means_init": [[0.0], [1.0]],
        "weights_init": [0.5, 0.5],
        "precisions_init": np.full((2, 1, 1), 1 / (scaled.var() + 5e-4)),
    }
    mixture = GaussianMixture(2, reg_covar=5e-4, max_iter=200, random_state=0, **start)
    component = mixture.fit_predict(scaled)
    # The fit does not keep the order of the components, so that the means decide which one is noise.
    return np.asarray(component == mixture.means_.ravel().argmax())


def cross_entropy(probabilities: Floats, targets: NDArray[np.int64]) -> float:
    """Return the mean cross-entropy in nats.

    Args:
        probabilities: (N, C) class probabilities.
        targets: (N,) classes.

    Example:
        >>> round(cross_entropy(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0, 0])), 4)
        0.3466
    """
    # Double precision, so that the mean of many losses does not lose digits.
    target_probability = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    return float(-np.log(np.maximum(target_probability, MIN_PROBABILITY)).mean())


def calibration_error(probabilities: Floats, targets: NDArray[np.int64], bins: int = 15) -> float:
    """Return the expected calibration error (Naeini et al., 2015; Guo et al., 2017).

    Args:
        probabilities: (N, C) class probabilities.
        targets: (N,) classes.
        bins: number of equal-width bins of the highest probability.

    Returns:
        Mean over examples of |accuracy - confidence| of their bin, in [0, 1].

    Example:
        >>> round(calibration_error(np.array([[0.8, 0.2], [0.8, 0.2]]), np.array([0, 1])), 4)
        0.3
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == targets
    return float(np.abs(calibration_gaps(confidence, correct, bins)).sum() / len(targets))


def calibration_gaps(confidence: NDArray[np.float64], correct: NDArray[np.bool_], bins: int) -> NDArray[np.float64]:
    """Return (bins,) sums of ``correct - confidence`` by bin of the confidence; sums over batches can be added.

    Example:
        >>> calibration_gaps(np.array([0.25, 0.75, 0.75]), np.array([True, False, True]), 2)
        array([ 0.75, -0.5 ])
    """
    # Bins are (low, high], so that a confidence of exactly 1 falls into the last one.
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return np.asarray(np.bincount(index, weights=correct - confidence, minlength=bins), dtype=np.float64)


def score_classifier(
    train_prediction: NDArray[np.int64],
    val_prediction: NDArray[np.int64],
    test_prediction: NDArray[np.int64],
    clean: NDArray[np.int64],
    observed: NDArray[np.int64],
    val_observed: NDArray[np.int64],
    test_targets: NDArray[np.int64],
    status: NDArray[np.int8],
) -> ProbeMetrics:
    """Return the metrics of one classifier of a probe.

    Args:
        train_prediction: (N,) predicted classes of the training examples.
        val_prediction: (V,) predicted classes of the validation examples.
        test_prediction: (M,) predicted classes of the test examples.
        clean: (N,) best known training targets.
        observed: (N,) observed training targets.
        val_observed: (V,) observed validation targets.
        test_targets: (M,) clean test targets.
        status: (N,) index into `LABEL_STATUS`.

    Example:
        >>> zero, one, status = np.array([0]), np.array([1]), np.array([1], dtype=np.int8)
        >>> score_classifier(one, one, one, zero, one, one, one, status).memorized_fraction
        1.0
    """
    return ProbeMetrics(
        test_accuracy=float((test_prediction == test_targets).mean()),
        noisy_val_accuracy=fraction(val_prediction == val_observed),
        clean_accuracy=fraction((train_prediction == clean)[clean >= 0]),
        noisy_accuracy=float((train_prediction == observed).mean()),
        memorized_fraction=fraction((train_prediction == observed)[np.isin(status, MISLABELED)]),
        recovered_fraction=fraction((train_prediction == clean)[status == IN_DISTRIBUTION]),
    )


def label_directions(
    clean: NDArray[np.int64], observed: NDArray[np.int64], num_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Split labels into their signal and their noise.

    Args:
        clean: (N,) clean targets.
        observed: (N,) observed targets.
        num_classes: C.

    Returns:
        (N, C) one-hot clean targets minus their mean, and (N, C) one-hot observed targets minus their mean among examples of
        the same clean class. Rows of examples without a known class are zero.

    Example:
        >>> signal, noise = label_directions(np.array([0, 1]), np.array([0, 1]), 2)
        >>> signal[0].tolist(), noise[0].tolist()
        ([0.5, -0.5], [0.0, 0.0])
    """
    known = clean >= 0
    one_hot = np.eye(num_classes)
    signal, noise = np.zeros((len(clean), num_classes)), np.zeros((len(clean), num_classes))
    signal[known] = one_hot[clean[known]] - one_hot[clean[known]].mean(0)
    for label in np.unique(clean[known]):
        members = clean == label
        # Without its mean by class, the noise is orthogonal to every function of the clean class.
        noise[members] = one_hot[observed[members]] - one_hot[observed[members]].mean(0)
    return signal, noise
