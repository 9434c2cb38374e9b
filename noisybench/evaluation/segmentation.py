"""Scores of tasks that predict one class per pixel: pure functions of predictions and masks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from noisybench.data.label_sets.statistics import intersection_over_union
from noisybench.data.targets import IGNORED, IN_DISTRIBUTION, UNKNOWN_STATUS, MaskTargets
from noisybench.evaluation.metrics import fraction
from noisybench.utils.seeds import Stream

Masks = NDArray[np.uint8]
Counts = NDArray[np.int64]
"""(C, C) numbers of pixels; row is the target, column the prediction."""

MASK_TARGETS = MaskTargets()

BOUNDARY_WIDTH = 0.02
"""Width of the boundary for the boundary IoU as a fraction of the image's diagonal (Cheng et al., 2021)."""

MAX_SAMPLED_PIXELS = 50_000
"""Number of pixels on which detection is measured; the standard error of an AUROC is then about 0.003."""

IMAGES_AT_A_TIME = 16
"""Number of masks that `count_masks` compares at a time."""


def sample_pixels(status: NDArray[np.int8], label_set: str) -> NDArray[np.int64]:
    """Return the pixels on which detection is measured: at most `MAX_SAMPLED_PIXELS`, the same for all runs of a label set.

    Args:
        status: (N, H, W) index into `LABEL_STATUS`.
        label_set: hash of the label set.

    Returns:
        (K,) positions of pixels of known status in the flattened masks, in increasing order.

    Example:
        >>> sample_pixels(np.array([[[0, 3, 1]]], dtype=np.int8), "0" * 64)
        array([0, 2])
    """
    known = np.flatnonzero(status != UNKNOWN_STATUS)
    # Named by the labels and not by the run, so that all runs on the same labels are measured on the same pixels.
    drawn = Stream("sampled pixels", label_set).permutation(len(known))[:MAX_SAMPLED_PIXELS]
    # Ascending, so that gathering them reads memory in one direction.
    return known[np.sort(drawn)]


def pair_counts(targets: Tensor, prediction: Tensor, num_classes: int) -> Tensor:
    """Count pairs of target and predicted class, on the device of the tensors.

    Args:
        targets: (B, H, W) uint8 classes and `IGNORED`.
        prediction: (B, H, W) predicted classes.
        num_classes: C.

    Returns:
        (C, C) int64 counts of the pixels with a label; row is the target, column the prediction.

    Example:
        >>> pair_counts(torch.tensor([[[0, 1, 255]]], dtype=torch.uint8), torch.tensor([[[0, 0, 1]]]), 2)
        tensor([[1, 0],
                [1, 0]])
    """
    labeled = targets != IGNORED
    # One count of combined indices gives the whole matrix; the product would overflow in uint8.
    pairs = targets[labeled].long() * num_classes + prediction[labeled]
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)


def boundary_width(height: int, width: int) -> int:
    """Return the width of the boundary in pixels: a fraction of the image's diagonal, at least one pixel.

    Example:
        >>> boundary_width(300, 400), boundary_width(8, 8)
        (10, 1)
    """
    # At least one pixel: the boundary of a small image would be empty otherwise.
    return max(1, round(BOUNDARY_WIDTH * math.hypot(height, width)))


def boundary_counts(prediction: Tensor, targets: Tensor, num_classes: int, width: int) -> Tensor:
    """Count the boundary pixels of each class (Cheng et al., 2021).

    The boundary of a class is what erosion by a square of ``width`` pixels on each side removes from it. A class ends at the
    edge of the image and at pixels without a label, which are not counted. It does so in both masks, so that a perfect
    prediction has the boundary of the target.

    Args:
        prediction: (B, H, W) predicted classes.
        targets: (B, H, W) uint8 classes and `IGNORED`.
        num_classes: C.
        width: width of the boundary in pixels.

    Returns:
        (3, C) numbers of boundary pixels: in both masks, in the prediction, in the target.

    Example:
        >>> mask = torch.zeros(1, 4, 4, dtype=torch.uint8)
        >>> boundary_counts(mask.long(), mask, 1, 1)[:, 0]
        tensor([12, 12, 12])
    """
    labeled, boundaries = targets != IGNORED, []
    # Without this, the prediction would go through pixels without a label, and its boundary would lie elsewhere.
    for mask in (prediction.masked_fill(~labeled, IGNORED), targets):
        # A pixel is on the boundary if another class, or the edge of the image (padded by -1), is within the width; that is,
        # if the highest or the lowest class in its window is not its own.
        # Pooling needs floats, in which class numbers are exact.
        padded = functional.pad(mask.float()[:, None], (1, 1, 1, 1), value=-1.0)
        window = (2 * width + 1, 1, width)
        highest, lowest = functional.max_pool2d(padded, *window), -functional.max_pool2d(-padded, *window)
        on_boundary = ((highest != padded) | (lowest != padded))[:, 0, 1:-1, 1:-1] & labeled
        boundaries.append((on_boundary, mask.long()))
    (predicted_boundary, predicted_class), (target_boundary, target_class) = boundaries
    in_both = predicted_boundary & target_boundary & (predicted_class == target_class)
    parts = ((in_both, target_class), (predicted_boundary, predicted_class), (target_boundary, target_class))
    return torch.stack([torch.bincount(classes[pixels], minlength=num_classes) for pixels, classes in parts])


def count_masks(prediction: Masks, targets: Masks, num_classes: int) -> tuple[Counts, NDArray[np.int64]]:
    """Count pairs of classes and boundary pixels of whole splits, from which the scores of masks follow.

    Args:
        prediction: (N, H, W) predicted classes, each below ``num_classes``.
        targets: (N, H, W) classes and `IGNORED`.
        num_classes: C.

    Returns:
        (C, C) result of `pair_counts` and (3, C) result of `boundary_counts`, over all masks.

    Example:
        >>> mask = np.zeros((1, 4, 4), dtype=np.uint8)
        >>> counts, boundary = count_masks(mask, mask, 1)
        >>> counts.tolist(), boundary[:, 0].tolist()
        ([[16]], [12, 12, 12])
    """
    counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    boundary = torch.zeros(3, num_classes, dtype=torch.int64)
    width = boundary_width(*targets.shape[1:])
    # The windows of boundaries take several floats per pixel.
    for start in range(0, len(targets), IMAGES_AT_A_TIME):
        rows = slice(start, start + IMAGES_AT_A_TIME)
        predicted, target = torch.from_numpy(prediction[rows]), torch.from_numpy(targets[rows])
        counts += pair_counts(target, predicted, num_classes)
        boundary += boundary_counts(predicted, target, num_classes, width)
    return counts.numpy(), boundary.numpy()


def mean_iou(counts: Counts, first_class: int = 0) -> float:
    """Return the mean IoU of the classes that occur, from `first_class`; 0 if none occurs.

    Example:
        >>> mean_iou(np.array([[1, 1], [0, 2]]))
        0.5833333333333333
    """
    iou = intersection_over_union(counts)[first_class:]
    return 0.0 if np.isnan(iou).all() else float(np.nanmean(iou))


def score_mask_predictions(
    prediction: Masks, clean: Masks, observed: Masks, status: NDArray[np.int8], num_classes: int, first_class: int
) -> dict[str, float | None]:
    """Score predicted masks of the training images.

    Args:
        prediction: (N, H, W) predicted classes.
        clean: (N, H, W) clean classes.
        observed: (N, H, W) observed classes.
        status: (N, H, W) index into `LABEL_STATUS`.
        num_classes: C.
        first_class: 1 to leave the background out of the mean IoU, else 0.

    Returns:
        ``train_score``, ``memorized_fraction`` and ``recovered_fraction`` of an `EpochRow`; the fractions are of pixels.

    Example:
        >>> clean, observed = np.array([[[0, 1]]], dtype=np.uint8), np.array([[[0, 0]]], dtype=np.uint8)
        >>> score_mask_predictions(clean, clean, observed, (clean != observed).astype(np.int8), 2, 0)
        {'train_score': 0.25, 'memorized_fraction': 0.0, 'recovered_fraction': 1.0}
    """
    mislabeled = status == IN_DISTRIBUTION
    return {
        "train_score": mean_iou(MASK_TARGETS.transition_counts(observed, prediction, num_classes), first_class),
        "memorized_fraction": fraction((prediction == observed)[mislabeled]),
        "recovered_fraction": fraction((prediction == clean)[mislabeled]),
    }


def mask_diagnostics(
    counts: Counts, boundary: NDArray[np.int64], class_names: Sequence[str], first_class: int
) -> dict[str, float]:
    """Return scores of the test masks by class, and further means.

    Args:
        counts: result of `pair_counts`.
        boundary: result of `boundary_counts`.
        class_names: names of the classes.
        first_class: 1 to leave the background out of the means, else 0.

    Returns:
        ``iou.CLASS``, ``dice``, ``boundary_iou``, ``pixel_accuracy`` and ``miou_with_background``; classes and means that do
        not occur are left out.

    Example:
        >>> scores = mask_diagnostics(np.eye(2, dtype=int), np.ones((3, 2), dtype=int), ["background", "disc"], 1)
        >>> scores["iou.disc"], scores["dice"], scores["boundary_iou"]
        (1.0, 1.0, 1.0)
    """
    iou = intersection_over_union(counts)
    in_both, in_prediction, in_target = boundary
    union = in_prediction + in_target - in_both
    boundary_iou = np.divide(in_both, union, out=np.full(len(in_both), np.nan), where=union > 0)
    scores = _by_class("iou", iou, class_names)
    # The Dice coefficient is a function of the IoU of the same class.
    for name, values in (("dice", 2 * iou / (1 + iou)), ("boundary_iou", boundary_iou)):
        if not np.isnan(values[first_class:]).all():
            scores[name] = float(np.nanmean(values[first_class:]))
    return scores | {
        "pixel_accuracy": float(np.trace(counts) / max(counts.sum(), 1)),
        "miou_with_background": float(np.nanmean(iou)),
    }


def early_learning(
    prediction: Masks, clean: Masks, observed: Masks, status: NDArray[np.int8], class_names: Sequence[str]
) -> dict[str, float]:
    """Return the IoU by class on mislabeled pixels, with the clean and with the observed labels (Liu et al., 2022).

    Args:
        prediction: (N, H, W) predicted classes.
        clean: (N, H, W) clean classes.
        observed: (N, H, W) observed classes.
        status: (N, H, W) index into `LABEL_STATUS`.
        class_names: names of the classes.

    Returns:
        ``learned.CLASS`` and ``memorized.CLASS``; empty without mislabeled pixels.

    Example:
        >>> clean, observed = np.array([[[0, 1]]], dtype=np.uint8), np.array([[[0, 0]]], dtype=np.uint8)
        >>> early_learning(clean, clean, observed, (clean != observed).astype(np.int8), ["a", "b"])
        {'learned.b': 1.0, 'memorized.a': 0.0, 'memorized.b': 0.0}
    """
    mislabeled, num_classes = status == IN_DISTRIBUTION, len(class_names)
    scores: dict[str, float] = {}
    if not mislabeled.any():
        return scores
    for kind, labels in (("learned", clean), ("memorized", observed)):
        # Class times C would overflow in uint8.
        pairs = labels[mislabeled].astype(np.int64) * num_classes + prediction[mislabeled]
        counts = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
        scores |= _by_class(kind, intersection_over_union(counts), class_names)
    return scores


def score_corrected_masks(
    corrected: Masks, clean: Masks, status: NDArray[np.int8], num_classes: int, first_class: int
) -> dict[str, float]:
    """Score the masks that a stack would use instead of the observed ones.

    Args:
        corrected: (N, H, W) corrected classes.
        clean: (N, H, W) clean classes.
        status: (N, H, W) index into `LABEL_STATUS`.
        num_classes: C.
        first_class: 1 to leave the background out of the mean IoU, else 0.

    Returns:
        ``label_miou``, the mean IoU with the clean masks, and ``corrected_fraction`` of the mislabeled pixels, if there are
        any.

    Example:
        >>> clean = np.array([[[0, 1]]], dtype=np.uint8)
        >>> score_corrected_masks(clean, clean, np.array([[[0, 1]]], dtype=np.int8), 2, 0)
        {'label_miou': 1.0, 'corrected_fraction': 1.0}
    """
    scores = {"label_miou": mean_iou(MASK_TARGETS.transition_counts(clean, corrected, num_classes), first_class)}
    corrected_fraction = fraction((corrected == clean)[status == IN_DISTRIBUTION])
    return scores if corrected_fraction is None else {**scores, "corrected_fraction": corrected_fraction}


def mask_correction_accuracy(corrected: Masks, clean: Masks, observed: Masks) -> float | None:
    """Return the fraction of changed pixels that have the clean class now; None if no pixel of a known class is changed.

    Args:
        corrected: (N, H, W) corrected classes.
        clean: (N, H, W) clean classes.
        observed: (N, H, W) observed classes.

    Example:
        >>> masks = (np.array([[[1, 2, 0]]]), np.array([[[1, 1, 0]]]), np.array([[[0, 1, 0]]]))
        >>> mask_correction_accuracy(*(mask.astype(np.uint8) for mask in masks))
        0.5
    """
    changed = (corrected != observed) & MASK_TARGETS.is_labeled(clean)
    return fraction((corrected == clean)[changed])


def _by_class(kind: str, values: NDArray[np.float64], class_names: Sequence[str]) -> dict[str, float]:
    """Return values by class; classes that do not occur are NaN and left out."""
    return {
        f"{kind}.{name}": float(value) for name, value in zip(class_names, values, strict=True) if not np.isnan(value)
    }
