"""What noise models for masks have in common: one stream per image, objects, and a severity that meets a target."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.data.dataset import Dataset, Split
from noisybench.data.label_statistics import intersection_over_union
from noisybench.data.noise_model import NoiseModel
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream

Mask = NDArray[np.uint8]
"""(H, W) class indices; 0 is the background."""

TOLERANCE = 0.01
"""How near the measured mIoU comes to the one that was asked for."""

SQUARE = np.ones((3, 3), np.uint8)
"""The neighbourhood of dilation and erosion."""


@dataclass(frozen=True)
class Corruption:
    """What a generator may use for one image.

    Attributes:
        stream: of this image alone.
        severity: multiplies the strength; 0 changes nothing.
        classes: number of classes, the background included.
        masks: (N, H, W) clean masks of the same split, from which false objects may be taken.
    """

    stream: Stream
    severity: float
    classes: int
    masks: NDArray[np.uint8]

    def draw(self) -> float:
        """A number in [0, 1)."""
        return float(self.stream.uniform(1)[0])

    def between(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self.draw()

    def one_of(self, count: int) -> int:
        """A number in range(count)."""
        return int(count * self.draw())

    def whole(self, number: float) -> int:
        """A whole number with this mean: rounded up with the probability of its fraction."""
        return int(number + self.draw())


class MaskNoise(NoiseModel):
    """Corrupts masks image by image; the result of an image depends on its row in the source and the seed alone.

    Pixels without a label stay without one and are never read as objects. An object is a connected component (8
    neighbours) of one class. At severity 0 nothing changes.
    """

    tasks = ("segmentation",)
    convention: ClassVar[str] = "share of pixels whose class differs; `masks` in the manifest has IoU and area bias"

    corrupted_fraction: float = parameter(1.0, ge=0, le=1, help="share of the images that are corrupted")
    severity: float = parameter(1.0, ge=0, low=0.25, high=2.0, help="times the strength below; 0 changes nothing")
    target_miou: float | None = parameter(
        None,
        gt=0,
        lt=1,
        help="choose the severity so that clean and noisy training masks have this foreground mIoU, within 0.01",
    )

    @abc.abstractmethod
    def corrupt_mask(self, mask: Mask, given: Corruption) -> Mask:
        """A corrupted copy of a mask without ignored pixels; ``mask`` itself is not changed."""

    def corrupt_labels(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[Any]:
        """Corrupted masks of one split.

        Raises:
            UserError: no severity reaches the target.
        """
        return self.corrupted(split, dataset.num_classes, self._severity(dataset))

    def source_info(self, dataset: Dataset) -> dict[str, Any]:
        """The severity that was used."""
        return {"severity": self._severity(dataset)}

    def corrupted(self, split: Split, classes: int, severity: float) -> NDArray[np.uint8]:
        """(N, H, W) corrupted masks of a split."""
        found = split.targets.copy()
        for row, source in enumerate(split.index):
            given = Corruption(Stream("mask", self.stream_name, self.seed, source), severity, classes, split.targets)
            chosen = given.draw() < self.corrupted_fraction
            if not chosen or not severity:
                continue
            clean = split.targets[row]
            ignored = clean == IGNORED
            noisy = self.corrupt_mask(np.where(ignored, np.uint8(0), clean), given)
            found[row] = np.where(ignored, np.uint8(IGNORED), noisy)
        return found

    def _severity(self, dataset: Dataset) -> float:
        if self.target_miou is None:
            return self.severity
        known: dict[str, float] = self.__dict__.setdefault("_calibrated", {})
        if dataset.hash not in known:
            known[dataset.hash] = self._calibrate(dataset)
        return known[dataset.hash]

    def _calibrate(self, dataset: Dataset) -> float:
        """The severity that meets the target on the training split, by bisection; the draws stay the same."""
        assert self.target_miou is not None
        low, high, best = 0.0, 1.0, (1.0, 0.0)
        while (measured := self._measured(dataset, high)) > self.target_miou and high < 64:
            best = min(best, (abs(measured - self.target_miou), high))
            low, high = high, 2 * high
        best = min(best, (abs(measured - self.target_miou), high))
        for _ in range(24):
            if best[0] < TOLERANCE / 4:
                break
            middle = (low + high) / 2
            measured = self._measured(dataset, middle)
            best = min(best, (abs(measured - self.target_miou), middle))
            low, high = (middle, high) if measured > self.target_miou else (low, middle)
        if best[0] > TOLERANCE:
            raise UserError(
                f"noise.target_miou: no severity of {self.name} brings the masks to {self.target_miou:g}; the nearest is "
                f"{best[0]:.3f} away, at severity {best[1]:.3g}. Ask for another level, or change the other parameters"
            )
        return best[1]

    def _measured(self, dataset: Dataset, severity: float) -> float:
        noisy = self.corrupted(dataset.train, dataset.num_classes, severity)
        found = intersection_over_union(
            dataset.target_kind.transition_counts(dataset.train.targets, noisy, dataset.num_classes)
        )
        return float(np.nanmean(found[1:]))

    example_classes = ("background", "disc", "square", "ring")

    @classmethod
    def example(cls, dataset: Dataset, folder: Path) -> dict[str, Any]:
        """The defaults."""
        return {"seed": 0}


def classes_in(mask: Mask) -> list[int]:
    """Classes other than the background that occur, those with the smallest area first."""
    sizes = np.bincount(mask.ravel())
    return [int(each) for each in np.argsort(sizes, kind="stable") if each and sizes[each]]


@dataclass(frozen=True)
class Object:
    """One connected component.

    Attributes:
        label: its class.
        shape: (h, w) bool within the box.
        top: first row of the box; `left` is the first column.
        left: first column.
    """

    label: int
    shape: NDArray[np.uint8]
    top: int
    left: int


def objects(mask: Mask) -> Iterator[Object]:
    """Every connected component of every class but the background, in the order of class and first pixel."""
    for label in range(1, int(mask.max(initial=0)) + 1):
        own = np.asarray(mask == label, dtype=np.uint8)
        across, down, wide, high = cv2.boundingRect(own)
        if not wide:
            continue
        own = own[down : down + high, across : across + wide]
        count, parts, boxes, _ = cv2.connectedComponentsWithStats(own, connectivity=8)
        for part in range(1, count):
            left, top, width, height = (int(each) for each in boxes[part, :4])
            shape = np.asarray(parts[top : top + height, left : left + width] == part, dtype=np.uint8)
            yield Object(label, shape, down + top, across + left)


def remove(mask: Mask, each: Object) -> None:
    """Make an object background."""
    place = mask[each.top : each.top + each.shape.shape[0], each.left : each.left + each.shape.shape[1]]
    place[(each.shape > 0) & (place == each.label)] = 0


def paste(mask: Mask, each: Object) -> None:
    """Put an object where there is background; what lies outside of the image is cut off."""
    top, left = max(0, each.top), max(0, each.left)
    shape = each.shape[top - each.top :, left - each.left :]
    place = mask[top : top + shape.shape[0], left : left + shape.shape[1]]
    shape = shape[: place.shape[0], : place.shape[1]]
    place[(shape > 0) & (place == 0)] = each.label


def grown(shape: NDArray[np.uint8], amount: int) -> NDArray[np.uint8]:
    """A binary mask dilated (or with a negative amount eroded) so many times by a square of 3; outside is empty."""
    if not amount:
        return shape
    change = cv2.dilate if amount > 0 else cv2.erode
    return np.asarray(change(shape, SQUARE, iterations=abs(amount), borderType=cv2.BORDER_CONSTANT, borderValue=0))


def box(shape: NDArray[np.uint8], margin: int) -> tuple[slice, slice]:
    """The box of what is set in an (H, W) mask, with a margin that stays inside."""
    left, top, width, height = cv2.boundingRect(shape)
    return slice(max(0, top - margin), top + height + margin), slice(max(0, left - margin), left + width + margin)


def replace_class(mask: Mask, label: int, before: NDArray[np.uint8], after: NDArray[np.uint8]) -> None:
    """Have a class cover another region: what it leaves is background, what it gains was background."""
    mask[(before > 0) & (after == 0) & (mask == label)] = 0
    mask[(after > 0) & (mask == 0)] = label


def transformed(each: Object, degrees: float, factor: float, down: float, right: float) -> Object:
    """An object turned and scaled around its middle, and moved by some pixels."""
    height, width = each.shape.shape
    top, left = each.top + round(down), each.left + round(right)
    if abs(degrees) < 1e-9 and abs(factor - 1) < 1e-9:
        return Object(each.label, each.shape, top, left)
    side = math.ceil(math.hypot(height, width) * max(1.0, factor)) + 2
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, factor)
    matrix[:, 2] += ((side - width) / 2, (side - height) / 2)
    shape = cv2.warpAffine(each.shape, matrix, (side, side), flags=cv2.INTER_NEAREST)
    return Object(each.label, np.asarray(shape), top - round((side - height) / 2), left - round((side - width) / 2))
