"""Confident learning on masks: label quality of pixels and images from out-of-sample predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from noisybench.audit.confident_joint import TOLERANCE, calibrated_joint, class_thresholds, confident_counts
from noisybench.audit.reliability import Reliability, measure_reliability
from noisybench.data.targets import IGNORED
from noisybench.utils.seeds import Stream

TEMPERATURE = 0.1
"""Temperature of the soft minimum over the pixels of an image."""

MAX_SAMPLED_IMAGES = 500
"""Largest number of images with pixels on which the reliability is measured."""

MAX_SAMPLED_PIXELS = 4000
"""Number of pixels on which the reliability is measured; more pixels of the same images add little."""

Predictions = Callable[[], Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]]
"""Function that yields positions of images and their (B, C, H, W) out-of-sample probabilities, each image once."""


@dataclass(frozen=True)
class MaskScores:
    """Scores of N masks with C classes.

    Attributes:
        quality: (N, H, W) probability of the observed class of each pixel; 1 without a label.
        suggested: (N, H, W) most probable class of each pixel.
        suspect: (N, H, W) True for pixels whose label is probably incorrect.
        image_score: (N,) soft minimum of the quality of the pixels; lower where a mask is more likely incorrect.
        joint: (C, C) calibrated confident joint of the pixels, by observed class (row) and predicted class (column).
        labeled: (N, H, W) True for pixels with a label.
        reliability: accuracy of the predictions on a sample of pixels, and estimate of the noise rate or its absence.
        verified: (N,) True for masks that people have verified, which have no suspects and are last in the ranking.
    """

    quality: NDArray[np.float32]
    suggested: NDArray[np.uint8]
    suspect: NDArray[np.bool_]
    image_score: NDArray[np.float64]
    joint: NDArray[np.float64]
    labeled: NDArray[np.bool_]
    reliability: Reliability
    verified: NDArray[np.bool_]

    @property
    def ranking(self) -> NDArray[np.int64]:
        """(N,) positions of the images from the most to the least suspicious."""
        return np.lexsort((self.image_score, self.verified))

    def with_verified(self, verified: NDArray[np.bool_]) -> MaskScores:
        """Return the scores after people have verified some masks."""
        return replace(self, suspect=self.suspect & ~verified[:, None, None], verified=verified)

    @property
    def suspect_share(self) -> NDArray[np.float64]:
        """(N,) fraction of the labeled pixels of each image that are suspects."""
        return np.asarray(self.suspect.sum((1, 2)) / np.maximum(self.labeled.sum((1, 2)), 1))


def score_masks(masks: NDArray[np.uint8], predictions: Predictions, num_classes: int) -> MaskScores:
    """Score observed masks by out-of-sample predictions.

    The quality of a pixel is the predicted probability of its class, that of an image the soft minimum of its pixels. The
    number of suspects is that of the pixels whose most probable class is another one and reaches the threshold of its
    class, which is its mean probability over the pixels observed in it; the pixels of the lowest quality with another
    most probable class are the suspects (Lad and Mueller 2023). Pixels without a label are left out everywhere.

    Args:
        masks: (N, H, W) observed classes, and `IGNORED`.
        predictions: the predictions; called twice, because the thresholds depend on all of them.
        num_classes: number of classes C.

    Example:
        >>> mask = np.array([[[0, 0, 1, 1, IGNORED]]], dtype=np.uint8)
        >>> of_class_1 = np.array([0.1, 0.9, 0.8, 0.9, 0.0])
        >>> probabilities = np.stack([1 - of_class_1, of_class_1]).reshape(1, 2, 1, 5).astype(np.float32)
        >>> scores = score_masks(mask, lambda: iter([(np.arange(1), probabilities)]), 2)
        >>> scores.suspect[0, 0].tolist()
        [False, True, False, False, False]
    """
    labeled = masks != IGNORED
    quality = np.ones(masks.shape, dtype=np.float32)
    suggested = np.zeros(masks.shape, dtype=np.uint8)
    totals, class_sizes = np.zeros(num_classes), np.zeros(num_classes, dtype=np.int64)
    image_score = np.ones(len(masks))
    for rows, probabilities in predictions():
        # Ignored pixels are given a valid class for the look-up, and excluded by the mask.
        classes, has_label = np.where(labeled[rows], masks[rows], 0).astype(np.int64), labeled[rows]
        of_observed = np.take_along_axis(probabilities, classes[:, None], axis=1)[:, 0]
        quality[rows] = np.where(has_label, of_observed, 1.0)
        suggested[rows] = probabilities.argmax(1)
        totals += np.bincount(classes[has_label], of_observed[has_label].astype(np.float64), minlength=num_classes)
        class_sizes += np.bincount(classes[has_label], minlength=num_classes)
        image_score[rows] = [soft_minimum(each[has]) for each, has in zip(of_observed, has_label, strict=True)]
    thresholds, sample = class_thresholds(totals, class_sizes), _sample_pixels(labeled)
    counts, num_suspects = np.zeros((num_classes, num_classes)), 0
    sampled: dict[int, NDArray[np.float64]] = {}
    for rows, probabilities in predictions():
        pixels = np.moveaxis(probabilities, 1, -1)
        for row, image in zip(rows.tolist(), pixels, strict=True):
            if row in sample:
                sampled[row] = image.reshape(-1, num_classes)[sample[row]].astype(np.float64)
        has_label = labeled[rows]
        observed, predicted = masks[rows][has_label].astype(np.int64), pixels[has_label].astype(np.float64)
        counts += confident_counts(observed, predicted, thresholds)
        top = predicted.argmax(1)
        is_confident = predicted[np.arange(len(top)), top] >= thresholds[top] - TOLERANCE
        num_suspects += int((is_confident & (top != observed)).sum())
    order = sorted(sample)
    reliability = measure_reliability(
        np.concatenate([masks[row].reshape(-1)[sample[row]] for row in order]).astype(np.int64),
        np.concatenate([sampled[row] for row in order]),
        # Pixels of an image are alike, so that whole images are resampled.
        np.repeat(order, [len(sample[row]) for row in order]),
    )
    return MaskScores(
        quality,
        suggested,
        _lowest(quality, labeled, num_suspects) & (suggested != masks),
        image_score,
        calibrated_joint(counts, class_sizes),
        labeled,
        reliability,
        np.zeros(len(masks), dtype=bool),
    )


def soft_minimum(quality: NDArray[np.floating]) -> float:
    """Return the mean of the label quality of pixels, weighted by the softmax of one minus the quality.

    Example:
        >>> round(soft_minimum(np.array([1.0, 1.0, 0.0])), 4)
        0.0001
    """
    values = quality.astype(np.float64)
    weights = np.exp((values.min() - values) / TEMPERATURE)
    return float((weights * values).sum() / weights.sum())


def _lowest(quality: NDArray[np.float32], labeled: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """Return True for the `count` labeled pixels of the lowest quality; of ties, for the first ones."""
    positions = np.flatnonzero(labeled)
    chosen = np.zeros(labeled.size, dtype=bool)
    chosen[positions[np.argsort(quality.reshape(-1)[positions], kind="stable")[:count]]] = True
    return chosen.reshape(labeled.shape)


def _sample_pixels(labeled: NDArray[np.bool_]) -> dict[int, NDArray[np.int64]]:
    """Return positions of sampled pixels with a label by image."""
    stream = Stream("audit", "sampled pixels", *labeled.shape)
    images = np.sort(stream.permutation(len(labeled))[:MAX_SAMPLED_IMAGES])
    count = -(-MAX_SAMPLED_PIXELS // len(images))
    sample = {}
    for row in images.tolist():
        positions = np.flatnonzero(labeled[row])
        sample[row] = positions[stream.permutation(len(positions))[:count]]
    return sample
