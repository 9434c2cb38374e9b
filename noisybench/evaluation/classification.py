"""Scores of tasks that predict one class per example.

The functions are pure: the evaluator calls them after each epoch, and verification calls them on submitted predictions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.data.targets import CLEAN, IN_DISTRIBUTION, OUT_OF_DISTRIBUTION
from noisybench.evaluation import metrics
from noisybench.evaluation.detectors import score_detection
from noisybench.evaluation.metrics import MISLABELED, Floats, fraction

Classes = NDArray[np.int64] | NDArray[np.int16]
Scores = dict[str, float | None]


def score_predictions(prediction: Classes, clean: Classes, observed: Classes, status: NDArray[np.int8]) -> Scores:
    """Score predictions for the training examples.

    Args:
        prediction: (N,) predicted classes.
        clean: (N,) best known targets.
        observed: (N,) observed targets.
        status: (N,) index into `LABEL_STATUS`.

    Returns:
        ``train_score``, ``memorized_fraction`` and ``recovered_fraction`` of an `EpochRow`.

    Example:
        >>> clean, observed = np.array([0, 1, 2, 2]), np.array([0, 1, 0, 1])
        >>> status = np.array([0, 0, 1, 1], dtype=np.int8)
        >>> score_predictions(np.array([0, 1, 2, 1]), clean, observed, status)
        {'train_score': 0.75, 'memorized_fraction': 0.5, 'recovered_fraction': 0.5}
    """
    return {
        "train_score": float((prediction == observed).mean()),
        "memorized_fraction": fraction((prediction == observed)[np.isin(status, MISLABELED)]),
        "recovered_fraction": fraction((prediction == clean)[status == IN_DISTRIBUTION]),
    }


def recall_by_class(prediction: Classes, targets: Classes, num_classes: int) -> Floats:
    """Return the (C,) fraction of each class's examples that are predicted as it; NaN for a class without examples.

    Args:
        prediction: (M,) predicted classes.
        targets: (M,) classes.
        num_classes: C.

    Example:
        >>> recall_by_class(np.array([0, 1, 1]), np.array([0, 0, 1]), 3)
        array([0.5, 1. , nan])
    """
    examples = np.bincount(targets, minlength=num_classes)
    hits = np.bincount(targets[prediction == targets], minlength=num_classes)
    recalls: NDArray[np.float64] = np.divide(hits, examples, out=np.full(num_classes, np.nan), where=examples > 0)
    return recalls


def listed_recall(prediction: Classes, targets: Classes, num_classes: int) -> list[float | None]:
    """Return `recall_by_class` as a list with None for a class without examples; empty without examples.

    Example:
        >>> listed_recall(np.array([0, 1, 1]), np.array([0, 0, 1]), 3)
        [0.5, 1.0, None]
    """
    recalls = recall_by_class(prediction, targets, num_classes).tolist() if len(targets) else []
    return [None if np.isnan(recall) else recall for recall in recalls]


def balanced_accuracy(prediction: Classes, targets: Classes) -> float | None:
    """Return the mean recall of the classes that have examples; None without examples.

    Every class counts alike, however many examples it has (Brodersen et al., 2010).

    Example:
        >>> balanced_accuracy(np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1]))
        0.5
    """
    if not len(targets):
        return None
    return float(np.nanmean(recall_by_class(prediction, targets, int(targets.max()) + 1)))


def memorized_by_chance(
    test_prediction: Classes,
    test_targets: Classes,
    clean: Classes,
    observed: Classes,
    status: NDArray[np.int8],
    num_classes: int,
) -> float | None:
    """Return the fraction of mislabeled examples that would be predicted as their incorrect label without memorization.

    Test labels are never trained on. The chance of an example is therefore the frequency with which test examples of its
    clean class are predicted as its incorrect label. Where no test example has its clean class, as for out-of-distribution
    images, it is the frequency of that prediction among all test examples. A network that always predicts the clean class
    has the chance 0, one that guesses uniformly has 1 / C. Examples with noise that depends on the input are harder than
    others of their class, so that their chance is underestimated.

    Args:
        test_prediction: (M,) predicted classes of the test examples.
        test_targets: (M,) clean test targets.
        clean: (N,) best known training targets, negative where there is none.
        observed: (N,) observed training targets.
        status: (N,) index into `LABEL_STATUS`.
        num_classes: C.

    Returns:
        Expected `memorized_fraction`; None without mislabeled examples.

    Example:
        >>> clean, observed, status = np.array([0, 1]), np.array([1, 1]), np.array([1, 0], dtype=np.int8)
        >>> memorized_by_chance(np.array([0, 1, 0, 0]), np.array([0, 0, 1, 1]), clean, observed, status, 2)
        0.5
    """
    mislabeled = np.isin(status, MISLABELED)
    if not mislabeled.any():
        return None
    pairs = test_targets.astype(np.int64) * num_classes + test_prediction
    counts = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    # One more row for examples whose clean class no test example has.
    counts = np.vstack([counts, counts.sum(0)])
    row = np.where(clean[mislabeled] >= 0, clean[mislabeled], num_classes)
    row[counts[row].sum(1) == 0] = num_classes
    return float((counts[row, observed[mislabeled]] / counts[row].sum(1)).mean())


def score_validation(prediction: Classes, clean: Classes, observed: Classes) -> Scores:
    """Score predictions for the validation examples.

    Args:
        prediction: (V,) predicted classes.
        clean: (V,) best known targets, negative where the class is unknown.
        observed: (V,) observed targets.

    Returns:
        ``noisy_val_score``, ``clean_val_score`` and ``noisy_val_balanced_accuracy`` of an `EpochRow`; None without examples.

    Example:
        >>> score_validation(np.array([0, 1]), np.array([0, -2]), np.array([1, 1]))
        {'noisy_val_score': 0.5, 'clean_val_score': 1.0, 'noisy_val_balanced_accuracy': 0.5}
    """
    return {
        "noisy_val_score": fraction(prediction == observed),
        "clean_val_score": fraction((prediction == clean)[clean >= 0]),
        "noisy_val_balanced_accuracy": balanced_accuracy(prediction, observed),
    }


def score_test(
    prediction: Classes,
    targets: Classes,
    clean: Classes,
    observed: Classes,
    status: NDArray[np.int8],
    num_classes: int,
) -> Scores:
    """Score predictions for the test examples.

    Args:
        prediction: (M,) predicted classes of the test examples.
        targets: (M,) clean test targets.
        clean: (N,) best known training targets, negative where there is none.
        observed: (N,) observed training targets.
        status: (N,) index into `LABEL_STATUS`.
        num_classes: C.

    Returns:
        ``test_score``, ``test_balanced_accuracy`` and ``memorized_chance`` of an `EpochRow`.

    Example:
        >>> clean, observed, status = np.array([0, 1]), np.array([1, 1]), np.array([1, 0], dtype=np.int8)
        >>> score_test(np.array([0, 1, 0]), np.array([0, 0, 1]), clean, observed, status, 2)
        {'test_score': 0.3333333333333333, 'test_balanced_accuracy': 0.25, 'memorized_chance': 0.5}
    """
    return {
        "test_score": accuracy(prediction, targets),
        "test_balanced_accuracy": balanced_accuracy(prediction, targets),
        "memorized_chance": memorized_by_chance(prediction, targets, clean, observed, status, num_classes),
    }


def accuracy(prediction: Classes, targets: Classes) -> float:
    """Return the fraction of predicted classes that are the targets.

    Example:
        >>> accuracy(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0]))
        0.75
    """
    return float((prediction == targets).mean())


def score_label_quality(label_quality: Floats, status: NDArray[np.int8]) -> Scores:
    """Return ``noise_auroc``, ``id_noise_auroc`` and ``ood_auroc`` of an `EpochRow`.

    Args:
        label_quality: (N,) probability that the observed target is correct.
        status: (N,) index into `LABEL_STATUS`.

    Example:
        >>> score_label_quality(np.array([0.9, 0.1]), np.array([0, 1], dtype=np.int8))
        {'noise_auroc': 1.0, 'id_noise_auroc': None, 'ood_auroc': None}
    """
    aurocs = metrics.auroc_by_kind(-label_quality, status)
    # Without OOD examples the AUROC for ID noise is the overall one, and is not repeated.
    has_ood = (status == OUT_OF_DISTRIBUTION).any()
    return {**aurocs, "id_noise_auroc": aurocs["id_noise_auroc"] if has_ood else None}


def score_corrections(corrected: Classes, clean: Classes, observed: Classes) -> float | None:
    """Return the fraction of corrected targets that are clean, among examples of a known class; None without any.

    Args:
        corrected: (N,) targets that the stack would use.
        clean: (N,) best known targets, negative where the class is unknown.
        observed: (N,) observed targets.

    Example:
        >>> score_corrections(np.array([0, 1, 2]), np.array([0, 1, 1]), np.array([0, 0, 0]))
        0.5
    """
    return fraction((corrected == clean)[(corrected != observed) & (clean >= 0)])


def score_selection(kept: NDArray[np.bool_], status: NDArray[np.int8]) -> dict[str, float]:
    """Score the selection of training examples.

    Args:
        kept: (N,) whether the example is trained on.
        status: (N,) index into `LABEL_STATUS`.

    Returns:
        ``kept_fraction``, and ``kept_noise_rate`` if the status of a kept example is known.

    Example:
        >>> score_selection(np.array([True, True, False]), np.array([0, 1, 1], dtype=np.int8))
        {'kept_fraction': 0.6666666666666666, 'kept_noise_rate': 0.5}
    """
    kept_status = status[kept]
    # A status above `OUT_OF_DISTRIBUTION` is unknown, and says nothing about the noise rate.
    noise_rate = fraction((kept_status != CLEAN)[kept_status <= OUT_OF_DISTRIBUTION])
    return {"kept_fraction": float(kept.mean())} | ({} if noise_rate is None else {"kept_noise_rate": noise_rate})


def score_final(
    probabilities: Floats,
    test_targets: NDArray[np.int64],
    label_quality: Floats,
    corrected: Classes,
    clean: Classes,
    observed: Classes,
    status: NDArray[np.int8],
) -> dict[str, Any]:
    """Score the final predictions.

    Args:
        probabilities: (M, C) class probabilities of the test examples.
        test_targets: (M,) clean test targets.
        label_quality: (N,) probability that the observed training target is correct.
        corrected: (N,) targets that the stack would use.
        clean: (N,) best known training targets.
        observed: (N,) observed training targets.
        status: (N,) index into `LABEL_STATUS`.

    Returns:
        ``calibration_error``, ``correction_accuracy`` and ``detection`` of a `RunRecord`.

    Example:
        >>> clean, observed, status = np.array([0, 1]), np.array([0, 0]), np.array([0, 1], dtype=np.int8)
        >>> scores = score_final(np.eye(2), clean, np.array([0.9, 0.1]), clean, clean, observed, status)
        >>> scores["calibration_error"], scores["correction_accuracy"], scores["detection"].auroc
        (0.0, 1.0, 1.0)
    """
    return {
        "calibration_error": metrics.calibration_error(probabilities, test_targets),
        "correction_accuracy": score_corrections(corrected, clean, observed),
        "detection": score_detection(label_quality, status),
    }
