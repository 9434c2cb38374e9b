"""Early-learning correction of masks: fits of memorization curves, corrections and consistency, as pure functions."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from noisybench.data.targets import IGNORED

MIN_IOU = 0.1
"""Training IoU that a class must reach before it can be corrected; a class that is never predicted does not reach it."""

MIN_RISE = 0.05
"""Increase of the training IoU from which on a class is being learned; earlier epochs are left out of the fit."""

MIN_POINTS = 3
"""Number of points that a curve with three parameters needs."""

MIN_REMAINING_AREA, MAX_BACKGROUND = 0.5, 0.95
"""An image keeps its labels if its objects would shrink below the former and the background exceed the latter."""


@dataclass(frozen=True)
class Curve:
    """Saturating curve a (1 - exp(-b t^c)) with time t in epochs since `shift`.

    >>> curve = Curve(a=0.8, b=1.0, c=1.0, shift=0.0)
    >>> curve.onset(drop=0.9, last=10)
    4
    """

    a: float
    b: float
    c: float
    shift: float

    def slope(self, time: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the slope of the curve at times above 0."""
        return np.asarray(self.a * self.b * self.c * time ** (self.c - 1) * np.exp(-self.b * time**self.c))

    def onset(self, drop: float, last: int) -> int | None:
        """Return the first whole epoch at which the slope has fallen by a fraction since the first; None if none.

        Args:
            drop: fraction by which the slope has fallen.
            last: current epoch, from 1; later epochs are not considered.
        """
        # The slope at time 0 is infinite for c < 1, so the drop is measured from the first epoch.
        times = np.arange(1, max(1, int(last - self.shift)) + 1, dtype=np.float64)
        first = float(self.slope(times[:1])[0])
        # A large b lets the first slope underflow to 0, relative to which no drop is defined.
        if not math.isfinite(first) or first <= 0:
            return None
        beyond = np.flatnonzero(np.abs(first - self.slope(times)) / first > drop)
        return int(times[beyond[0]] + self.shift) if len(beyond) else None


def fit_curve(points: Sequence[float] | NDArray[np.float64], literal: bool = False) -> Curve | None:
    """Fit the curve to a class's training IoU after each epoch, with up to ten times the weight for later points.

    Epochs before the class is being learned are left out: up to the first increase by 0.05, starting from an IoU of 0
    before the first epoch. `literal` uses the rule of the SegTHOR code, an increase by 0.1 between epochs.

    Returns:
        The curve; None with fewer than three points, with an IoU below 0.1, or if the fit does not converge.
    """
    from scipy.optimize import OptimizeWarning, curve_fit

    iou = np.asarray(points, dtype=np.float64)
    if not np.isfinite(iou).all():
        return None
    steps = np.diff(iou if literal else np.concatenate([[0.0], iou]))
    rising = np.flatnonzero(steps >= (0.1 if literal else MIN_RISE))
    shift = int(rising[0]) if len(rising) else (len(iou) if literal else 0)
    kept = iou[shift:]
    if len(kept) < MIN_POINTS or kept.max() < MIN_IOU:
        return None
    times = np.arange(1, len(kept) + 1, dtype=np.float64)
    try:
        with warnings.catch_warnings():
            # This warning means that the points do not determine the parameters. Overflow at trial values is harmless.
            warnings.simplefilter("error", OptimizeWarning)
            warnings.simplefilter("ignore", RuntimeWarning)
            (a, b, c), _ = curve_fit(
                lambda t, a, b, c: a * (1 - np.exp(-b * t**c)),
                times,
                kept,
                p0=(min(1.0, max(kept.max(), 0.1)), 1.0, 0.9),
                # A smaller standard deviation is a larger weight.
                sigma=np.geomspace(1, 0.1, len(kept)),
                absolute_sigma=True,
                # An IoU is at most 1, and c <= 1 makes the slope fall from the start.
                bounds=([0, 0, 0], [1, np.inf, 1]),
                max_nfev=2000,
            )
    except (RuntimeError, ValueError, OptimizeWarning):
        return None
    return Curve(float(a), float(b), float(c), float(shift))


def correct_masks(
    labels: Tensor,
    predicted: Tensor,
    confidence: Tensor,
    memorized: Tensor,
    threshold: float,
    match: str,
    allowed: Tensor | None = None,
    protect_small_objects: bool = True,
    has_background: bool = True,
) -> Tensor:
    """Return (B, H, W) uint8 corrected labels; no argument is changed.

    Args:
        labels: (B, H, W) uint8, with `IGNORED` for pixels without a label.
        predicted: (B, H, W) uint8 classes.
        confidence: (B, H, W) confidence of the predictions; only values above the threshold count.
        memorized: (C,) bool, True for classes that are memorized.
        threshold: confidence in [0, 1].
        match: ``both`` requires the class of the label to be memorized as well, and leaves pixels without a label;
            ``prediction`` requires the predicted class only, and fills pixels without a label.
        allowed: (B, H, W) labels whose classes may occur in the result of an image, by default ``labels``.
        protect_small_objects: keep the labels of an image whose objects would shrink below a half while the background
            exceeds 95 %.
        has_background: class 0 is the background, which may occur anywhere and is no object.
    """
    first = 1 if has_background else 0
    if not bool(memorized[first:].any()):
        return labels
    classes = len(memorized)
    present = _classes_present(labels if allowed is None else allowed)
    if match == "prediction":
        # An image without any object gives no evidence of which classes it contains, so all are allowed.
        present |= ~present[:, first:classes].any(1, keepdim=True)
    elif has_background:
        present[:, 0] = True
    change = (confidence > threshold) & (predicted != labels) & memorized[predicted.long()]
    change &= present.gather(1, predicted.flatten(1).long()).view_as(labels)
    if match == "both":
        has_label = labels != IGNORED
        # `IGNORED` is no index into the classes; its placeholder 0 has no effect, because `has_label` is False there.
        change &= has_label & memorized[labels.long().masked_fill(~has_label, 0)]
    # An image without a memorized class is left alone, unless all of its labels are background.
    labeled_classes = _classes_present(labels)
    concerned = (labeled_classes[:, first:classes] & memorized[first:]).any(1)
    if match == "prediction":
        concerned |= ~labeled_classes[:, first:classes].any(1)
    corrected = torch.where(change & concerned[:, None, None], predicted, labels)
    if protect_small_objects and has_background:
        before, after = (((mask != 0) & (mask != IGNORED)).flatten(1).sum(1) for mask in (labels, corrected))
        background = (corrected == 0).flatten(1).float().mean(1)
        lost = (after < MIN_REMAINING_AREA * before) & (background > MAX_BACKGROUND)
        corrected = torch.where(lost[:, None, None], labels, corrected)
    return corrected


def _classes_present(labels: Tensor) -> Tensor:
    """Return (B, 256) bool, True for the classes in the masks of (B, H, W) labels."""
    # An entry for every value of uint8, so that `IGNORED` needs no special case. Repeated writes are all True, so
    # their order does not matter.
    present = torch.zeros(len(labels), 256, dtype=torch.bool, device=labels.device)
    values = labels.flatten(1).long()
    return present.scatter_(1, values, torch.ones_like(values, dtype=torch.bool))


def rescale(images: Tensor, scale: float) -> Tensor:
    """Return (B, C, H, W) images resized by a factor, bilinear."""
    if scale == 1:
        return images
    # `align_corners` is part of the method, here and on the way back: the corners of all scales coincide.
    size = [max(1, round(side * scale)) for side in images.shape[2:]]
    return functional.interpolate(images, size=size, mode="bilinear", align_corners=True)


def resize_scores(scores: Tensor, size: Sequence[int]) -> Tensor:
    """Return (B, C, H, W) scores in another size, bilinear."""
    if tuple(scores.shape[2:]) == tuple(size):
        return scores
    return functional.interpolate(scores, size=tuple(size), mode="bilinear", align_corners=True)


@torch.no_grad()
def predict_views(network: nn.Module, images: Tensor, scales: Sequence[float], flip: bool) -> tuple[Tensor, Tensor]:
    """Return the (B, H, W) largest mean probability and its uint8 class, over scales and mirror images.

    Args:
        network: network in evaluation mode, which maps images to (B, C, H', W') scores.
        images: (B, channels, H, W) normalized images.
        scales: factors by which the images are resized.
        flip: average over the mirror image as well.

    Example:
        >>> images = torch.zeros(2, 3, 8, 8)
        >>> confidence, predicted = predict_views(nn.Conv2d(3, 2, 1, bias=False), images, [1.0], flip=True)
        >>> confidence.shape, confidence.max().item()
        (torch.Size([2, 8, 8]), 0.5)
    """
    size = images.shape[2:]
    total: Tensor | None = None
    for scale in scales:
        for mirror in (False, True) if flip else (False,):
            inputs = rescale(images, scale)
            scores = network(inputs.flip(3) if mirror else inputs)
            # Mirrored back and resized first, so that all maps refer to the same pixels.
            probabilities = resize_scores((scores.flip(3) if mirror else scores).float(), size).softmax(1)
            # A running sum in place: memory for one map instead of one per scale and mirror image.
            total = probabilities if total is None else total.add_(probabilities)
    assert total is not None
    confidence, predicted = (total / (len(scales) * (2 if flip else 1))).max(1)
    return confidence, predicted.to(torch.uint8)


def multi_scale_divergence(
    scores: Sequence[Tensor], min_confidence: float = 0.0, has_label: Tensor | None = None
) -> Tensor:
    """Return the (B, H, W) Jensen-Shannon divergence in nats between K predictions, at most ln K.

    It is zero for images in which no labeled pixel's mean probability reaches the minimal confidence.

    Args:
        scores: K tensors (B, C, H, W).
        min_confidence: minimal confidence in [0, 1].
        has_label: (B, H, W) bool, False for pixels whose confidence does not count; by default all count.
    """
    divergence: Tensor = _JensenShannon.apply(min_confidence, has_label, *scores)
    return divergence


class _JensenShannon(torch.autograd.Function):
    """Jensen-Shannon divergence with its gradient in closed form.

    The gradient is p_k (d_k - p_k . d_k) / K, where d_k = log p_k - log q and q is the mean of all p_k. It needs half as
    many passes over the pixels as automatic differentiation, and these passes are the cost of the term for small networks.
    """

    @staticmethod
    def forward(ctx: Any, min_confidence: float, has_label: Tensor | None, *scores: Tensor) -> Tensor:
        """Return the divergence at each pixel."""
        logs = [score.log_softmax(1) for score in scores]
        maps = [log.exp() for log in logs]
        mean = torch.stack(maps).mean(0)
        # If every p_k rounds to 0, so does q.
        log_mean = mean.clamp_min(torch.finfo(mean.dtype).tiny).log()
        # In place: maps of (B, C, H, W) dominate the memory, and the logarithms are not needed again.
        differences = [log.sub_(log_mean) for log in logs]
        divergences = [(p * d).sum(1, keepdim=True) for p, d in zip(maps, differences, strict=True)]
        confidence = mean.amax(1)
        if has_label is not None:
            confidence = confidence * has_label
        is_confident = (confidence.amax((1, 2)) >= min_confidence)[:, None, None]
        ctx.save_for_backward(is_confident, *maps, *differences, *divergences)
        return (sum(divergences, torch.zeros_like(divergences[0]))[:, 0] / len(maps)) * is_confident

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the scores."""
        is_confident, *saved = ctx.saved_tensors
        count = len(saved) // 3
        weight = (gradients[0] * is_confident / count)[:, None]
        parts = saved[:count], saved[count : 2 * count], saved[2 * count :]
        return None, None, *(weight * p * (d - divergence) for p, d, divergence in zip(*parts, strict=True))
