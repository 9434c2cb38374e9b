"""Slices of labeled volumes as images with masks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.data.notes import ReadingNote, reading_note
from noisybench.data.targets import IGNORED
from noisybench.data.volumes.volumes import LabeledVolume

SlicePlane = Literal["axial", "coronal", "sagittal"]
"""Plane of slices in canonical orientation (RAS+)."""

AXES: Mapping[SlicePlane, int] = {"sagittal": 0, "coronal": 1, "axial": 2}
"""Axis that each plane is perpendicular to."""

MAX_SATURATED = 0.25
"""Largest share of pixels above the intensity window that needs no note; bones in CT are far less."""

MAX_ANISOTROPY = 0.02
"""Largest relative difference of two lengths of pixels that needs no note."""


@dataclass(frozen=True)
class PatientSlices:
    """Slices of one patient before they are resized, with facts about them.

    Attributes:
        images: (N, H, W) uint8 intensities in the window.
        masks: (N, H, W) uint8 classes and `IGNORED`.
        pixel_size: height and width of a pixel in millimeters.
        orientation: directions of the stored axes of the volume; empty if unknown.
        labels_orientation: those of the mask.
        same_affine: False if volume and mask were matched by position.
        nan_count: number of NaN among the pixels.
        saturated: share of pixels above the window.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    pixel_size: tuple[float, float]
    orientation: str
    labels_orientation: str
    same_affine: bool
    nan_count: int
    saturated: float


def cut_slices(
    volume: LabeledVolume, classes: NDArray[np.uint8], plane: SlicePlane, every_slice: bool, window: tuple[float, float]
) -> PatientSlices:
    """Return the slices of a volume that show an object.

    Args:
        volume: volume with its mask.
        classes: (X, Y, Z) classes and `IGNORED`.
        plane: plane of the slices.
        every_slice: return those without objects as well, if they have a label at all.
        window: intensities that become 0 and 255. NaN becomes 0.

    Example:
        >>> box = np.zeros((4, 4, 3), dtype=np.uint8)
        >>> box[1:3, 1:3, 1] = 1
        >>> volume = LabeledVolume(box * 100.0, box, (1.0, 1.0, 2.0), "RAS", "RAS", True)
        >>> slices = cut_slices(volume, box, "axial", False, (0.0, 100.0))
        >>> slices.images[0, 1].tolist(), slices.masks.shape
        ([0, 255, 255, 0], (1, 4, 4))
    """
    axis = AXES[plane]
    masks = np.moveaxis(classes, axis, 0)
    counted = masks != IGNORED if every_slice else (masks != IGNORED) & (masks != 0)
    kept = counted.any(axis=(1, 2))
    intensities = np.moveaxis(volume.intensities, axis, 0)[kept]
    images, nan_count, saturated = _to_gray(intensities, window)
    height, width = (size for other, size in enumerate(volume.spacing) if other != axis)
    return PatientSlices(
        images,
        np.ascontiguousarray(masks[kept]),
        (height, width),
        volume.orientation,
        volume.labels_orientation,
        volume.same_affine,
        nan_count,
        saturated,
    )


def _to_gray(intensities: NDArray[Any], window: tuple[float, float]) -> tuple[NDArray[np.uint8], int, float]:
    """Return intensities clipped to the window as uint8, the number of NaN and the share above the window."""
    low, high = window
    images = np.empty(intensities.shape, dtype=np.uint8)
    nan_count = above = 0
    for row, values in enumerate(intensities):  # one slice at a time, because the results are float64
        if values.dtype.kind == "f" and (missing := np.isnan(values)).any():
            nan_count += int(missing.sum())
            values = np.where(missing, low, values)
        above += int((values > high).sum())
        images[row] = np.rint(255 * (np.clip(values, low, high) - low) / (high - low)).astype(np.uint8)
    return images, nan_count, above / max(intensities.size, 1)


def count_labels(labels: NDArray[Any]) -> dict[int, int]:
    """Return the number of voxels of each value.

    Example:
        >>> count_labels(np.array([[0, 3], [3, 3]]))
        {0: 1, 3: 3}
    """
    if labels.min() < 0 or labels.max() >= 2**16:
        values, counts = np.unique(labels, return_counts=True)
        return dict(zip(values.tolist(), counts.tolist(), strict=True))
    # Much faster than sorting; by parts, because the function makes int64 copies.
    total = np.zeros(2**16, dtype=np.int64)
    for part in labels:
        total += np.bincount(part.ravel(), minlength=2**16)
    present = np.flatnonzero(total)
    return dict(zip(present.tolist(), total[present].tolist(), strict=True))


def to_classes(labels: NDArray[Any], table: Mapping[int, int]) -> NDArray[np.uint8]:
    """Return labels with each value replaced by its class.

    Args:
        labels: array of integers; each is a key of the table.
        table: class of each value, or `IGNORED`.

    Example:
        >>> to_classes(np.array([0, 4, 255]), {0: 0, 4: 1, 255: 255})
        array([  0,   1, 255], dtype=uint8)
    """
    values = np.array(sorted(table))
    classes = np.array([table[value] for value in values.tolist()], dtype=np.uint8)
    lowest, highest = int(values[0]), int(values[-1])
    if highest - lowest < 2**16:
        lookup = np.zeros(highest - lowest + 1, dtype=np.uint8)
        lookup[values - lowest] = classes
        return lookup[labels if lowest == 0 else labels.astype(np.int64) - lowest]
    return classes[np.searchsorted(values, labels)]


def patient_copies(patients: Mapping[str, PatientSlices]) -> dict[str, set[str]]:
    """Return for each patient the names of all patients with the same images, itself included."""
    by_content: dict[str, set[str]] = {}
    contents = {}
    for name, slices in patients.items():
        content = hashlib.sha256(slices.images.tobytes()).hexdigest() + str(slices.images.shape)
        contents[name] = content
        by_content.setdefault(content, set()).add(name)
    return {name: by_content[content] for name, content in contents.items()}


def describe_slices(patients: Mapping[str, PatientSlices], copies: Mapping[str, set[str]]) -> tuple[ReadingNote, ...]:
    """Return notes about conversions and unusual geometry, with the names of the patients concerned.

    Args:
        patients: slices by patient.
        copies: patients with the same images, as `patient_copies` returns them.
    """
    notes: tuple[ReadingNote, ...] = ()
    for orientation in sorted({slices.orientation for slices in patients.values()}):
        names = [name for name, slices in patients.items() if slices.orientation == orientation]
        if not orientation:
            notes += reading_note(
                "no_orientation", "Volumes without an orientation were read along their stored axes", names
            )
        elif orientation != "RAS":
            notes += reading_note(
                "orientation", f"Volumes stored as {orientation} were turned to the canonical axes RAS", names
            )
    other = [
        name for name, each in patients.items() if each.same_affine and each.orientation != each.labels_orientation
    ]
    notes += reading_note(
        "mask_orientation", "Masks were stored along other axes than their volumes and turned to them", other
    )
    moved = [name for name, slices in patients.items() if not slices.same_affine]
    notes += reading_note(
        "unequal_geometry", "Masks whose affines differ from their volumes' were matched by position", moved
    )
    missing = [name for name, slices in patients.items() if slices.nan_count]
    notes += reading_note("nan_intensities", "NaN intensities became the lower end of the window", missing)
    bright = [name for name, slices in patients.items() if slices.saturated > MAX_SATURATED]
    notes += reading_note(
        "saturated", f"More than {MAX_SATURATED:.0%} of the pixels are above dataset.window, so white", bright
    )
    oblong = [name for name, slices in patients.items() if _differ(*slices.pixel_size)]
    notes += reading_note(
        "anisotropic", "Pixels of the slices are not square in millimeters and are not resampled", oblong
    )
    copied = sorted(name for name, members in copies.items() if len(members) > 1)
    notes += reading_note(
        "patient_copies", "Patients have the same images as others; drawn splits do not separate them", copied
    )
    sizes = [size for slices in patients.values() for size in slices.pixel_size]
    if not oblong and _differ(min(sizes), max(sizes)):
        text = f"Pixels of the slices differ between patients, from {min(sizes):.3g} to {max(sizes):.3g} mm"
        notes += reading_note("spacing", text, list(patients))
    return notes


def _differ(first: float, second: float) -> bool:
    return abs(first - second) > MAX_ANISOTROPY * max(first, second)
