"""Base class of noise models for masks, with operations on objects in masks."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter, schema_of
from noisybench.data.dataset import Dataset, Split
from noisybench.data.label_sets.statistics import intersection_over_union
from noisybench.data.noise_model import NoiseModel
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError
from noisybench.noise_models._regions import Mask, MaskObject, fill_nearest, find_objects, paint, paste
from noisybench.utils.seeds import Stream

MIOU_TOLERANCE = 0.01
"""Largest accepted difference between the measured and the requested mIoU."""

MAX_SEVERITY = 64.0
"""Severity at which the search for a target mIoU stops growing."""

BISECTION_STEPS = 24


@dataclass(frozen=True)
class MaskContext:
    """Randomness and settings for the corruption of one mask.

    Attributes:
        stream: random stream of this image alone.
        severity: factor of the strength; 0 changes nothing.
        num_classes: number of classes, including the background.
        masks: (N, H, W) clean masks of the same split, from which false objects may be taken.
        has_background: False if class 0 is none. Class c of the dataset is then c + 1, and 0 is no class at all.
        instances: (N, H, W) instance of each pixel of the split, 0 for none; None if the dataset has no instances.
        row: position of the image in the split.
    """

    stream: Stream
    severity: float
    num_classes: int
    masks: NDArray[np.uint8]
    has_background: bool = True
    instances: NDArray[np.uint16] | None = None
    row: int = 0

    @property
    def class_offset(self) -> int:
        """Difference between the classes of a corrupted mask and those of the dataset."""
        return 0 if self.has_background else 1

    def objects(self, mask: Mask) -> Iterator[MaskObject]:
        """Yield the objects of the clean mask of this image: its instances, or else connected components."""
        return find_objects(mask, None if self.instances is None else self.instances[self.row])

    def donor_objects(self, row: int) -> Iterator[MaskObject]:
        """Yield the objects of a clean mask of the split, in the classes of the corrupted mask."""
        mask = self.masks[row]
        # `IGNORED` is greater than any class and would otherwise count as an object.
        donor = np.where(mask == IGNORED, np.uint8(0), mask + np.uint8(self.class_offset))
        return find_objects(donor, None if self.instances is None else self.instances[row])

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
    unlabeled and never belong to an object. An object is an instance if the dataset has instance masks, and else a connected
    component (8 neighbors) of one class. Severity 0 changes nothing.

    In datasets without a background, every class has objects, and noise acts between neighbors: lost pixels go to the
    nearest other class, and a class grows onto its neighbors. Between two classes the smaller one moves the boundary.
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
            context = MaskContext(
                stream, severity, num_classes + as_regions, split.targets, not as_regions, split.instances, row
            )
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
    for item in context.objects(mask):
        paint(areas, item, int(item.pixels.sum()), areas == 0)
    areas[noisy == 0] = mask.size + 1
    for item in sorted(items, key=lambda item: -int(item.pixels.sum())):
        area = int(item.pixels.sum())
        larger = areas > area
        paint(noisy, item, item.label, larger)
        paint(areas, item, area, larger)


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


def in_turn(mask: Mask, order: Sequence[int], context: MaskContext) -> Iterator[tuple[int, NDArray[np.bool_] | None]]:
    """Yield classes one after the other, each with the neighbors at whose boundaries it moves.

    Args:
        mask: mask that changes meanwhile.
        order: classes.
        context: context of the image.

    Yields:
        A class, and (256,) truth values by class; None for the background alone. Every boundary between two classes
        moves once, by the class whose turn is first, since both would otherwise undo each other's changes.
    """
    neighbors = np.ones(256, dtype=np.bool_)
    for label in order:
        neighbors[label] = False
        if context.has_background:
            yield label, None
        elif (mask == label).any():  # no earlier class has covered it
            yield label, neighbors
