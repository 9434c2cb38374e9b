"""When a class of masks begins to be memorised, and what becomes of its labels then; all of it pure functions."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from noisybench.data.targets import IGNORED

FLOOR = 0.1
"""Training IoU that a class must have reached before it can be corrected: one that is never predicted is not."""

RISE = 0.05
"""Step of the training IoU with which a class begins to be learned; epochs before are left out of the fit."""

FEWEST = 3
"""Points that a curve of three parameters needs."""

VANISHED, EMPTY = 0.5, 0.95
"""An image keeps its labels where its objects would shrink below this share, and the background exceed that one."""


@dataclass(frozen=True)
class Curve:
    """a (1 - exp(-b t**c)), with time t in epochs since `shift`."""

    a: float
    b: float
    c: float
    shift: float

    def slope(self, time: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of the curve at times above 0."""
        return np.asarray(self.a * self.b * self.c * time ** (self.c - 1) * np.exp(-self.b * time**self.c))

    def onset(self, drop: float, last: int) -> int | None:
        """The first whole epoch, up to the last, at which the slope has fallen by a share since the first; None if none.

        Args:
            drop: the share.
            last: the present epoch, from 1.
        """
        times = np.arange(1, max(1, int(last - self.shift)) + 1, dtype=np.float64)
        first = float(self.slope(times[:1])[0])
        if not math.isfinite(first) or first <= 0:
            return None
        beyond = np.flatnonzero(np.abs(first - self.slope(times)) / first > drop)
        return int(times[beyond[0]] + self.shift) if len(beyond) else None


def fit_curve(points: Sequence[float] | NDArray[np.float64], literal: bool = False) -> Curve | None:
    """Fit the curve to a class's training IoU after each epoch, later points with up to ten times the weight.

    The epochs before the class begins to be learned are left out: up to the first rise by 0.05, counting from an IoU of 0
    before the first epoch. `literal` has the SegTHOR code's rule, which asks for a rise by 0.1 between epochs.

    Returns:
        None where there are fewer than three points, the IoU is below 0.1, or no fit is found.
    """
    from scipy.optimize import OptimizeWarning, curve_fit

    iou = np.asarray(points, dtype=np.float64)
    if not np.isfinite(iou).all():
        return None
    steps = np.diff(iou if literal else np.concatenate([[0.0], iou]))
    rising = np.flatnonzero(steps >= (0.1 if literal else RISE))
    shift = int(rising[0]) if len(rising) else (len(iou) if literal else 0)
    kept = iou[shift:]
    if len(kept) < FEWEST or kept.max() < FLOOR:
        return None
    times = np.arange(1, len(kept) + 1, dtype=np.float64)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", OptimizeWarning)
            warnings.simplefilter("ignore", RuntimeWarning)
            (a, b, c), _ = curve_fit(
                lambda t, a, b, c: a * (1 - np.exp(-b * t**c)),
                times,
                kept,
                p0=(min(1.0, max(kept.max(), 0.1)), 1.0, 0.9),
                sigma=np.geomspace(1, 0.1, len(kept)),
                absolute_sigma=True,
                bounds=([0, 0, 0], [1, np.inf, 1]),
                max_nfev=2000,
            )
    except (RuntimeError, ValueError, OptimizeWarning):
        return None
    return Curve(float(a), float(b), float(c), float(shift))


def corrected(
    labels: Tensor,
    predicted: Tensor,
    confidence: Tensor,
    active: Tensor,
    threshold: float,
    rule: str,
    allowed: Tensor | None = None,
    guard: bool = True,
) -> Tensor:
    """(B, H, W) uint8 corrected labels; none of the arguments is changed.

    Args:
        labels: (B, H, W) uint8, with `IGNORED` where there is no label.
        predicted: (B, H, W) uint8 classes.
        confidence: (B, H, W) of the predictions; only what is above the threshold counts.
        active: (C,) bool, classes that are memorised.
        threshold: in [0, 1].
        rule: ``both`` asks the label's class to be active as well, and leaves pixels without one; ``single`` fills them.
        allowed: (B, H, W) labels whose classes may occur in the result of an image, by default ``labels``.
        guard: keep an image's labels where its objects would shrink below a half and the background exceed 95 %.
    """
    if not bool(active[1:].any()):
        return labels
    count, classes = len(labels), len(active)
    present = torch.zeros(count, 256, dtype=torch.bool, device=labels.device)
    source = (labels if allowed is None else allowed).flatten(1).long()
    present.scatter_(1, source, torch.ones_like(source, dtype=torch.bool))
    if rule == "single":
        # An image without any object says nothing about what is in it.
        present |= ~present[:, 1:classes].any(1, keepdim=True)
    else:
        present[:, 0] = True
    wanted = predicted.flatten(1).long()
    change = (confidence > threshold) & (predicted != labels) & active[predicted.long()]
    change &= present.gather(1, wanted).view_as(labels)
    if rule == "both":
        known = labels != IGNORED
        change &= known & active[labels.long().masked_fill(~known, 0)]
    # An image without a memorised class is left alone, unless nothing but background is known of it.
    inside = torch.zeros(count, 256, dtype=torch.bool, device=labels.device)
    own = labels.flatten(1).long()
    inside.scatter_(1, own, torch.ones_like(own, dtype=torch.bool))
    concerned = (inside[:, 1:classes] & active[1:]).any(1)
    if rule == "single":
        concerned |= ~inside[:, 1:classes].any(1)
    found = torch.where(change & concerned[:, None, None], predicted, labels)
    if guard:
        before, after = (((each != 0) & (each != IGNORED)).flatten(1).sum(1) for each in (labels, found))
        background = (found == 0).flatten(1).float().mean(1)
        lost = (after < VANISHED * before) & (background > EMPTY)
        found = torch.where(lost[:, None, None], labels, found)
    return found


def rescaled(images: Tensor, scale: float) -> Tensor:
    """(B, C, H, W) images resized by a factor, bilinear."""
    if scale == 1:
        return images
    size = [max(1, round(side * scale)) for side in images.shape[2:]]
    return functional.interpolate(images, size=size, mode="bilinear", align_corners=True)


def sized(scores: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, H, W) scores in another size."""
    if tuple(scores.shape[2:]) == tuple(size):
        return scores
    return functional.interpolate(scores, size=tuple(size), mode="bilinear", align_corners=True)


def multi_scale_divergence(scores: Sequence[Tensor], gate: float = 0.0) -> Tensor:
    """(B, H, W) Jensen-Shannon divergence in nats between K predictions, (B, C, H, W) scores each; at most ln K.

    Images in which no pixel's mean probability reaches the gate have none.
    """
    divergence: Tensor = _Divergence.apply(gate, *scores)
    return divergence


class _Divergence(torch.autograd.Function):
    """With its gradient in closed form: p_k (d_k - p_k . d_k) / K, where d_k = log p_k - log q and q is the mean of all p_k.

    Half as many passes over the pixels as automatic differentiation makes, which at small networks is what the term costs.
    """

    @staticmethod
    def forward(ctx: Any, gate: float, *scores: Tensor) -> Tensor:
        """The divergence at each pixel."""
        logs = [each.log_softmax(1) for each in scores]
        maps = [each.exp() for each in logs]
        mean = torch.stack(maps).mean(0)
        # Where every p_k rounds to 0, so does q.
        log_mean = mean.clamp_min(torch.finfo(mean.dtype).tiny).log()
        differences = [each.sub_(log_mean) for each in logs]
        each_one = [(p * d).sum(1, keepdim=True) for p, d in zip(maps, differences, strict=True)]
        is_open = (mean.amax((1, 2, 3)) >= gate)[:, None, None]
        ctx.save_for_backward(is_open, *maps, *differences, *each_one)
        return (sum(each_one, torch.zeros_like(each_one[0]))[:, 0] / len(maps)) * is_open

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """For the scores."""
        is_open, *rest = ctx.saved_tensors
        count = len(rest) // 3
        weight = (gradients[0] * is_open / count)[:, None]
        thirds = rest[:count], rest[count : 2 * count], rest[2 * count :]
        return None, *(weight * p * (d - own) for p, d, own in zip(*thirds, strict=True))
