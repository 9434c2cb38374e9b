"""Base class of noise models for masks, with operations on objects in masks."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from noisybench.config.parameters import parameter, schema_of
from noisybench.data.dataset import Dataset, Split
from noisybench.data.label_statistics import intersection_over_union
from noisybench.data.noise_model import NoiseModel
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream

Mask = NDArray[np.uint8]
"""(H, W) class indices; 0 is the background."""

MIOU_TOLERANCE = 0.01
"""Largest accepted difference between the measured and the requested mIoU."""

MAX_SEVERITY = 64.0
"""Severity at which the search for a target mIoU stops growing."""

BISECTION_STEPS = 24

SQUARE = np.ones((3, 3), np.uint8)
"""Neighborhood of dilation and erosion."""


@dataclass(frozen=True)
class MaskContext:
    """Randomness and settings for the corruption of one mask.

    Attributes:
        stream: random stream of this image alone.
        severity: factor of the strength; 0 changes nothing.
        num_classes: number of classes, including the background.
        masks: (N, H, W) clean masks of the same split, from which false objects may be taken.
        has_background: False if class 0 is none. Class c of the dataset is then c + 1, and 0 is no class at all.
    """

    stream: Stream
    severity: float
    num_classes: int
    masks: NDArray[np.uint8]
    has_background: bool = True

    @property
    def class_offset(self) -> int:
        """Difference between the classes of a corrupted mask and those of the dataset."""
        return 0 if self.has_background else 1

    def donor(self, row: int) -> Mask:
        """Return a clean mask of the split in the classes of the corrupted mask; pixels without a label are 0."""
        mask = self.masks[row]
        # `IGNORED` is greater than any class and would otherwise count as an object.
        return np.where(mask == IGNORED, np.uint8(0), mask + np.uint8(self.class_offset))

    def random(self) -> float:
        """Return a random number in [0, 1)."""
        return float(self.stream.uniform(1)[0])

    def uniform(self, low: float, high: float) -> float:
        """Return a random number in [low, high)."""
        return low + (high - low) * self.random()

    def randint(self, count: int) -> int:
        """Return a random integer in [0, count)."""
        return int(count * self.random())

    def stochastic_round(self, number: float) -> int:
        """Return an integer with the given mean: rounded up with the probability of the fractional part."""
        return int(number + self.random())


class MaskNoise(NoiseModel):
    """Base class of noise models that corrupt masks image by image.

    The result for an image depends on its row in the source and on the seed alone. Pixels without a label stay
    unlabeled and never belong to an object. An object is a connected component (8 neighbors) of one class. Severity 0
    changes nothing.

    In datasets without a background, every class has objects, and noise acts between neighbors: what a class loses goes to
    the nearest other class, and it grows onto its neighbors. Between two classes the smaller one moves the boundary.
    """

    tasks = ("segmentation",)
    moves_regions: ClassVar[bool] = True
    """False for noise of single pixels, for which it makes no difference whether class 0 is the background."""
    convention: ClassVar[str] = (
        "fraction of pixels with an incorrect class; `masks` in the manifest has IoU and area bias"
    )

    corrupted_fraction: float = parameter(1.0, ge=0, le=1, help="Fraction of the images to corrupt")
    severity: float = parameter(
        1.0, ge=0, low=0.25, high=2.0, help="Factor of the strength of the noise; 0 changes nothing"
    )
    target_miou: float | None = parameter(
        None,
        gt=0,
        lt=1,
        help="MIoU of clean and noisy training masks, without the background, to reach (within 0.01) by choosing the severity",
    )

    example_classes = ("background", "disc", "square", "ring")

    @abc.abstractmethod
    def corrupt_mask(self, mask: Mask, context: MaskContext) -> Mask:
        """Return a corrupted copy of a mask.

        Args:
            mask: (H, W) classes without ignored pixels; must not be changed.
            context: randomness and settings for this image.
        """

    def corrupt_labels(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[Any]:
        """Return the corrupted masks of one split.

        Raises:
            UserError: no severity reaches the target mIoU.
        """
        return self.corrupt_masks(split, dataset.num_classes, self._chosen_severity(dataset), dataset.has_background)

    def source_info(self, dataset: Dataset) -> dict[str, Any]:
        """Return the severity that was used."""
        return {"severity": self._chosen_severity(dataset)}

    def corrupt_masks(
        self, split: Split, num_classes: int, severity: float, has_background: bool = True
    ) -> NDArray[np.uint8]:
        """Return the (N, H, W) corrupted masks of a split."""
        as_regions = self.moves_regions and not has_background
        observed = split.targets.copy()
        for row, source_row in enumerate(split.index):
            stream = Stream("mask", self.stream_name, self.seed, source_row)
            context = MaskContext(stream, severity, num_classes + as_regions, split.targets, not as_regions)
            # Drawn before the test for severity 0, so that the stream does not depend on the severity.
            corrupted = context.random() < self.corrupted_fraction
            if not corrupted or not severity:
                continue
            clean = split.targets[row]
            ignored = clean == IGNORED
            if as_regions:
                # As if regions continued below pixels without a label, which are no boundaries.
                regions = fill_nearest(clean, ignored) + np.uint8(1)
                corrupted_regions = self.corrupt_mask(regions, context)
                vacated = corrupted_regions == 0
                # Without any region left, no class could take their place.
                noisy = clean if vacated.all() else fill_nearest(corrupted_regions, vacated) - np.uint8(1)
            else:
                noisy = self.corrupt_mask(np.where(ignored, np.uint8(0), clean), context)
            observed[row] = np.where(ignored, np.uint8(IGNORED), noisy)
        return observed

    def _chosen_severity(self, dataset: Dataset) -> float:
        """Return the severity parameter, or the one that reaches the target mIoU."""
        if self.target_miou is None:
            return self.severity
        # Both splits and the manifest ask for the severity, but each measurement corrupts the whole training split.
        cache: dict[str, float] = self.__dict__.setdefault("_calibrated", {})
        if dataset.hash not in cache:
            cache[dataset.hash] = self._calibrate(dataset, self.target_miou)
        return cache[dataset.hash]

    def _calibrate(self, dataset: Dataset, target: float) -> float:
        """Return the severity that reaches the target on the training split, by bisection.

        Every severity uses the same random numbers, so the mIoU falls nearly monotonically.
        """
        # `best` is (difference, severity): the search returns the closest severity measured, even if the mIoU is not
        # monotonic.
        low, high, best = 0.0, 1.0, (1.0, 0.0)
        while (miou := self._measure_miou(dataset, high)) > target and high < MAX_SEVERITY:
            best = min(best, (abs(miou - target), high))
            low, high = high, 2 * high
        best = min(best, (abs(miou - target), high))
        for _ in range(BISECTION_STEPS):
            if best[0] < MIOU_TOLERANCE / 4:
                break
            middle = (low + high) / 2
            miou = self._measure_miou(dataset, middle)
            best = min(best, (abs(miou - target), middle))
            low, high = (middle, high) if miou > target else (low, middle)
        if best[0] > MIOU_TOLERANCE:
            raise UserError(
                f"noise.target_miou: no severity of {self.name} reaches {target:g}; the closest result differs by "
                f"{best[0]:.3f}, at severity {best[1]:.3g}. Choose another target, or change the other parameters"
            )
        return best[1]

    def _measure_miou(self, dataset: Dataset, severity: float) -> float:
        """Return the mIoU of clean and noisy training masks, without that of the background."""
        noisy = self.corrupt_masks(dataset.train, dataset.num_classes, severity, dataset.has_background)
        # Pooled over all pixels like the manifest; a mean of the IoU of each image would be another quantity.
        counts = dataset.target_kind.transition_counts(dataset.train.targets, noisy, dataset.num_classes)
        return float(np.nanmean(intersection_over_union(counts)[1 if dataset.has_background else 0 :]))

    @classmethod
    def example(cls, dataset: Dataset, folder: Path) -> dict[str, Any]:
        """Return the default parameters."""
        return {"seed": 0}


@dataclass(frozen=True)
class MaskObject:
    """One connected component.

    Attributes:
        label: its class.
        pixels: (h, w) uint8, 1 inside the object, within its bounding box.
        top: first row of the bounding box.
        left: first column of the bounding box.
    """

    label: int
    pixels: NDArray[np.uint8]
    top: int
    left: int


def present_classes(mask: Mask) -> list[int]:
    """Return the foreground classes of a mask, smallest area first.

    Examples:
        >>> present_classes(np.array([[0, 2, 2], [0, 2, 1]], dtype=np.uint8))
        [1, 2]
    """
    sizes = np.bincount(mask.ravel())
    # Stable, so that equally large classes use the random numbers in the same order on every machine.
    return [int(label) for label in np.argsort(sizes, kind="stable") if label and sizes[label]]


def find_objects(mask: Mask) -> Iterator[MaskObject]:
    """Yield every connected component of every foreground class, ordered by class and first pixel.

    Examples:
        >>> mask = np.array([[1, 0, 0], [0, 0, 1], [0, 0, 1]], dtype=np.uint8)
        >>> [(item.top, item.left, item.pixels.shape) for item in find_objects(mask)]
        [(0, 0, (1, 1)), (1, 2, (2, 1))]
    """
    for label in range(1, int(mask.max(initial=0)) + 1):
        region = np.asarray(mask == label, dtype=np.uint8)
        first_column, first_row, width, height = cv2.boundingRect(region)
        if not width:
            continue
        # Components are searched in the bounding box of the class, as most classes cover a small part of the image.
        region = region[first_row : first_row + height, first_column : first_column + width]
        count, components, boxes, _ = cv2.connectedComponentsWithStats(region, connectivity=8)
        for component in range(1, count):
            left, top, width, height = (int(value) for value in boxes[component, :4])
            box = components[top : top + height, left : left + width]
            yield MaskObject(label, np.asarray(box == component, dtype=np.uint8), first_row + top, first_column + left)


def erase(mask: Mask, item: MaskObject) -> None:
    """Turn an object into background, in place."""
    height, width = item.pixels.shape
    region = mask[item.top : item.top + height, item.left : item.left + width]
    # Only pixels that still have the class: others in the bounding box may have changed already.
    region[(item.pixels > 0) & (region == item.label)] = 0


def paste(mask: Mask, item: MaskObject) -> None:
    """Draw an object on the background, in place; parts outside of the image are cut off."""
    # Negative positions would count from the end of the array.
    top, left = max(0, item.top), max(0, item.left)
    pixels = item.pixels[top - item.top :, left - item.left :]
    region = mask[top : top + pixels.shape[0], left : left + pixels.shape[1]]
    pixels = pixels[: region.shape[0], : region.shape[1]]
    region[(pixels > 0) & (region == 0)] = item.label


def draw_objects(noisy: Mask, mask: Mask, items: Sequence[MaskObject], context: MaskContext) -> None:
    """Draw changed objects, in place: on the background only, or without one as painters do, small objects last.

    Args:
        noisy: mask in which the former places of the objects are 0.
        mask: the clean mask.
        items: changed objects.
        context: context of the image.
    """
    if context.has_background:
        for item in items:
            paste(noisy, item)
        return
    # An object never covers a smaller one, changed or not.
    areas = np.zeros(mask.shape, dtype=np.int64)
    for item in find_objects(mask):
        paint(areas, item, int(item.pixels.sum()), areas == 0)
    areas[noisy == 0] = mask.size + 1
    for item in sorted(items, key=lambda item: -int(item.pixels.sum())):
        area = int(item.pixels.sum())
        larger = areas > area
        paint(noisy, item, item.label, larger)
        paint(areas, item, area, larger)


def paint(canvas: NDArray[Any], item: MaskObject, value: int, allowed: NDArray[np.bool_]) -> None:
    """Set the pixels of an object to a value where it is allowed, in place; parts outside of the image are cut off."""
    # Negative positions would count from the end of the array.
    top, left = max(0, item.top), max(0, item.left)
    pixels = item.pixels[top - item.top :, left - item.left :]
    window = slice(top, top + pixels.shape[0]), slice(left, left + pixels.shape[1])
    region = canvas[window]
    region[(pixels[: region.shape[0], : region.shape[1]] > 0) & allowed[window]] = value


def fill_nearest(mask: Mask, missing: NDArray[np.bool_]) -> Mask:
    """Return a mask in which missing pixels have the class of the nearest other pixel; unchanged if there is none.

    Args:
        mask: (H, W) classes.
        missing: (H, W) truth values.

    Examples:
        >>> fill_nearest(np.array([[1, 9, 9, 9, 2]], dtype=np.uint8), np.array([[False, True, True, True, False]]))[0, 1:4:2]
        array([1, 2], dtype=uint8)
    """
    if missing.all() or not missing.any():
        return mask
    rows, columns = distance_transform_edt(missing, return_distances=False, return_indices=True)
    return np.asarray(mask[rows, columns])


def grow(pixels: NDArray[np.uint8], amount: int) -> NDArray[np.uint8]:
    """Return a binary mask dilated ``amount`` times by a 3x3 square, or eroded if negative.

    The edge of the array is no boundary: an object may continue beyond the edge of the image, so it is not eroded there.

    Examples:
        >>> grow(np.array([[1, 1, 1, 0, 0]], dtype=np.uint8), -1)
        array([[1, 1, 0, 0, 0]], dtype=uint8)
    """
    if not amount:
        return pixels
    # OpenCV's default border never erodes from the edge of the array.
    change = cv2.dilate if amount > 0 else cv2.erode
    return np.asarray(change(pixels, SQUARE, iterations=abs(amount)))


def with_preset(model: MaskNoise, presets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the values of all parameters that presets set: those of the chosen preset, or the model's own.

    Args:
        model: a noise model with the parameter `preset`, whose value "default" keeps the model's own parameters.
        presets: published values of parameters by preset; every preset sets the same parameters.

    Raises:
        UserError: a preset was chosen and one of its parameters is set to a value of its own as well.
    """
    chosen = model.parameters["preset"]
    names = list(next(iter(presets.values())))
    if chosen == "default":
        return {name: getattr(model, name) for name in names}
    fields = schema_of(type(model)).fields
    changed = [name for name in names if getattr(model, name) not in (fields[name][1].default, presets[chosen][name])]
    if changed:
        raise UserError(
            f"noise.{changed[0]}: preset={chosen} sets {changed[0]} to {presets[chosen][changed[0]]}, but got "
            f"{getattr(model, changed[0])}. Remove one of the two, or use preset=default"
        )
    return dict(presets[chosen])


def bounding_box(pixels: NDArray[np.uint8], margin: int) -> tuple[slice, slice]:
    """Return rows and columns of the bounding box of a binary mask, with a margin inside of the image."""
    left, top, width, height = cv2.boundingRect(pixels)
    return slice(max(0, top - margin), top + height + margin), slice(max(0, left - margin), left + width + margin)


def in_turn(mask: Mask, order: Sequence[int], context: MaskContext) -> Iterator[tuple[int, NDArray[np.bool_] | None]]:
    """Yield classes one after the other, each with the rivals at whose boundaries it moves.

    Args:
        mask: mask that changes meanwhile.
        order: classes.
        context: context of the image.

    Yields:
        A class, and (256,) truth values by class; None for the background alone. Every boundary between two classes
        moves once, by the class whose turn is first, since both would otherwise undo each other's changes.
    """
    rivals = np.ones(256, dtype=np.bool_)
    for label in order:
        rivals[label] = False
        if context.has_background:
            yield label, None
        elif (mask == label).any():  # no earlier class has covered it
            yield label, rivals


def replace_class(
    mask: Mask,
    label: int,
    before: NDArray[np.uint8] | NDArray[np.bool_],
    after: NDArray[np.uint8] | NDArray[np.bool_],
    rivals: NDArray[np.bool_] | None = None,
) -> None:
    """Change the region of a class, in place.

    Lost pixels become background, and only background is gained. If there are rivals, lost pixels take the class of the
    nearest other pixel, and only pixels of rivals are lost to them or gained from them.
    """
    lost = (before > 0) & (after == 0) & (mask == label)
    if rivals is None:
        mask[lost] = 0
        mask[(after > 0) & (mask == 0)] = label
        return
    gained = (after > 0) & rivals[mask]
    nearest = fill_nearest(mask, mask == label)
    lost &= rivals[nearest]
    mask[lost] = nearest[lost]
    mask[gained] = label


def transform(item: MaskObject, degrees: float, factor: float, down: float, right: float) -> MaskObject:
    """Return an object rotated and scaled around its center, and moved by some pixels."""
    height, width = item.pixels.shape
    top, left = item.top + round(down), item.left + round(right)
    # Resampling can change pixels even without rotation, so a mere translation copies them.
    if abs(degrees) < 1e-9 and abs(factor - 1) < 1e-9:
        return MaskObject(item.label, item.pixels, top, left)
    # The diagonal fits the object at any angle; two more pixels allow for rounding.
    side = math.ceil(math.hypot(height, width) * max(1.0, factor)) + 2
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, factor)
    matrix[:, 2] += ((side - width) / 2, (side - height) / 2)
    pixels = cv2.warpAffine(item.pixels, matrix, (side, side), flags=cv2.INTER_NEAREST)
    return MaskObject(
        item.label, np.asarray(pixels), top - round((side - height) / 2), left - round((side - width) / 2)
    )
