"""Decision about the meaning of the values in masks: declared, class indices, or refused with a proposal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from noisybench.data.masks.scan import MAX_SHOWN, MaskScan, Value, count_text
from noisybench.data.masks.values import MAX_TOLERANCE, Color, MaskValues
from noisybench.data.notes import ReadingNote, reading_note
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError

MAX_PROPOSED = 64
"""Largest number of values for which a message proposes classes."""

MIN_SHARE = 0.02
"""Smallest share of pixels of a color that a message proposes for masks with smooth edges."""

NEAR = 16
"""Distance below which values belong to one peak of a mask that was compressed with loss."""


def check_declared(scan: MaskScan, values: MaskValues, num_classes: int, location: str = "dataset") -> None:
    """Refuse values and colors that have no class.

    Args:
        scan: values of all masks.
        values: declared values, or class indices below ``num_classes``.
        num_classes: number of classes.
        location: component whose parameters declare values.

    Raises:
        UserError: lists the values with shares and numbers of masks, and proposes a mapping.
    """
    classes = dict(zip(scan.counts, values.classes_of(list(scan.counts)), strict=True))
    unknown = [
        value for value, target in classes.items() if target is None or (target >= num_classes and target != IGNORED)
    ]
    if not unknown:
        return
    files = max(scan.counts[value].files for value in unknown)
    first = scan.counts[min(unknown, key=lambda value: scan.counts[value].example)].example
    if values.colors is not None:
        raise UserError(
            f"{location}.colors: at least {files} of {count_text(scan.files)} contain colors that are not declared: "
            f"{scan.describe(unknown)}, the first in {first}; {_propose_colors(scan, values, unknown, location)}"
        )
    grays = [value for value in unknown if isinstance(value, int)]
    if len(grays) < len(unknown):
        raise _color_error(scan, location)
    known = (
        f"the declared ones are {', '.join(map(str, sorted(values.classes)))}"
        if values.classes is not None
        else f"classes range from 0 to {num_classes - 1} (255: no label)"
    )
    table = {value: target for value, target in classes.items() if target is not None and value not in unknown}
    mapping = {value: table.get(value, IGNORED) for value in scan.values}
    if values.classes is not None:
        is_damaged = set(_peaks(scan)) and set(_peaks(scan)) <= set(values.classes)
        mapping = dict(values.classes) if is_damaged else {**mapping, **values.classes}
    raise UserError(
        f"{location}.values: at least {files} of {count_text(scan.files)} contain values that are not declared: "
        f"{scan.describe(grays)}, the first in {first}; {known}; {_propose_values(scan, mapping, location)}"
    )


def count_classes(scan: MaskScan, values: MaskValues, named: int | None, skip: bool, location: str = "dataset") -> int:
    """Return the number of classes of masks.

    Args:
        scan: values of all masks.
        values: declared values, if there are any; they or the names decide the number.
        named: number of names of classes; None if there are none.
        skip: True if files that do not fit are skipped.
        location: component whose parameters declare values.

    Raises:
        UserError: nothing is declared, and the values do not say what the classes are.
    """
    inferred = 2 if values.declared else _infer_classes(scan, named, skip, location)
    if named is not None:
        if values.declared and max(values.targets, default=0) >= named:
            raise UserError(
                f"{location}: the values or colors of masks declare the class {max(values.targets)}, but there are {named} names "
                "of classes; correct one of them"
            )
        if (
            not values.declared
            and not skip
            and [value for value in scan.values if value != IGNORED] == list(range(named + 1))
        ):
            raise UserError(
                f"{location}: masks contain the values from 0 to {named}, but the number of names of classes is {named}; add the "
                "name of class 0 (the background) as the first line"
            )
        return named
    return max(2, max(values.targets, default=0) + 1) if values.declared else inferred


def _infer_classes(scan: MaskScan, named: int | None, skip: bool, location: str) -> int:
    """Return the number of classes of masks whose values are class indices that nothing declares.

    Raises:
        UserError: the values do not say what the classes are; lists them and proposes a mapping.
    """
    if not scan.counts:
        return 2  # all files are damaged or missing, which reading them reports
    if scan.colors and not (scan.mixed and skip):
        raise _color_error(scan, location)
    found = scan.values
    labels = [value for value in found if value != IGNORED]
    values = f"{location}.values: {count_text(scan.files)} contain the values {scan.describe(found)}"
    damaged = _peaks(scan)
    if damaged:
        raise UserError(
            f"{values}: they look like {len(damaged)} values that a lossy compression (JPEG) has changed; "
            f"{_propose_values(scan, damaged, location)}"
        )
    if scan.lossy:
        raise UserError(
            f"{location}.values: {len(scan.lossy)} of {count_text(scan.files)} are JPEG files ({', '.join(scan.lossy[:3])}), "
            f"whose compression changes values; found {scan.describe(found)}; declare the values; "
            f"{_propose_values(scan, {value: index for index, value in enumerate(labels)}, location)}"
        )
    if IGNORED in found and set(labels) <= {0}:
        raise UserError(
            f"{values}: 255 would mean no label, and only background would be left; if 255 is the object, "
            f"{_propose_values(scan, {0: 0, IGNORED: 1}, location)}"
        )
    if labels == [0]:
        raise UserError(f"{values}: there is nothing but background; check the folder of the masks")
    if named is None and labels != list(range(len(labels))):
        mapping = {value: IGNORED if value in (IGNORED, -1) else labels.index(value) for value in found}
        if labels[0] == -1:
            mapping = {value: target - (0 <= target < IGNORED) for value, target in mapping.items()}
        advice = _propose_values(scan, mapping, location)
        raise UserError(
            f"{values}, which are not the classes 0, 1, 2, …: some are missing in between; {advice}, or list the names of all "
            "classes in classes.txt"
        )
    return max(2, len(labels))


def check_objects(observed: NDArray[np.uint8], clean: NDArray[np.uint8], location: str) -> None:
    """Refuse observed masks whose objects have the value that means no label.

    Args:
        observed: (N, H, W) classes and `IGNORED`.
        clean: those of the dataset.
        location: where the observed masks come from.

    Raises:
        UserError: the observed masks contain nothing but class 0 and pixels without a label where the dataset has labels,
            unlike the dataset.

    Example:
        >>> clean = np.array([[[0, 1, 255]]], dtype=np.uint8)
        >>> check_objects(np.array([[[0, 255, 0]]], dtype=np.uint8), clean, "noise.path")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        noisybench.errors.UserError: noise.path: the masks have class 0 and pixels without a label alone ...
    """
    found = set(np.unique(observed[clean != IGNORED]).tolist())
    if IGNORED in found and found <= {0, IGNORED} and ((clean != 0) & (clean != IGNORED)).any():
        raise UserError(
            f"{location}: the masks have class 0 and pixels without a label alone ({IGNORED} means no label unless "
            f"dataset.values declares it), so no object is left; if {IGNORED} is the object, write the number of its class"
        )


def describe_unlabeled(scan: MaskScan, values: MaskValues) -> tuple[ReadingNote, ...]:
    """Return notes about pixels that have no label because nothing declares their value."""
    if values.declared or IGNORED not in scan.counts:
        return ()
    text = f"Pixels of the value {IGNORED} have no label, as dataset.values does not declare it"
    doubtful = f"Masks have no other value than {IGNORED} (no label) beside 0; if it is an object there, declare dataset.values"
    return (
        ReadingNote("unlabeled_value", text, scan.counts[IGNORED].files),
        *reading_note("doubtful_255", doubtful, scan.unlabeled_only),
    )


def _propose_values(scan: MaskScan, mapping: Mapping[int, int], location: str) -> str:
    """Return advice to declare a mapping, with the tolerance that it needs."""
    if len(scan.values) > MAX_PROPOSED and len(mapping) > MAX_PROPOSED:
        return "convert the masks to class indices; they may be photographs or have lossy compression"
    shown = ", ".join(f"{value}: {target}" for value, target in sorted(mapping.items()))
    ignored = " (255: no label)" if IGNORED in mapping.values() else ""
    tolerance = max((min(abs(value - key) for key in mapping) for value in scan.values), default=0)
    gaps = [high - low for low, high in zip(sorted(mapping), sorted(mapping)[1:], strict=False)]
    tolerance = min(tolerance, (min(gaps, default=2 * MAX_TOLERANCE + 1) - 1) // 2)
    more = f" {location}.value_tolerance={tolerance}" if tolerance else ""
    return f"set {location}.values='{{{shown}}}'{more}{ignored}"


def _propose_colors(scan: MaskScan, values: MaskValues, unknown: Sequence[Value], location: str) -> str:
    """Return advice to declare further colors, or a tolerance."""
    table = dict(values.colors or {})
    for tolerance in (8, 16, 32, 64):
        try:
            wider = MaskValues(colors=table, tolerance=tolerance)
        except UserError:
            break
        if tolerance > values.tolerance and None not in wider.classes_of(unknown):
            return f"if a lossy compression has changed them, set {location}.value_tolerance={tolerance}"
    if len(table) + len(unknown) > MAX_PROPOSED:
        return "save the masks without lossy compression and without smooth edges"
    mapping = {**table, **{color: IGNORED for color in unknown if isinstance(color, tuple)}}
    return f"set {location}.colors='{_table(mapping)}' (255: no label)"


def _color_error(scan: MaskScan, location: str) -> UserError:
    """Return the refusal of color masks without a table, which proposes one."""
    colors = scan.colors
    if scan.mixed:
        return UserError(
            f"{location}: {len(scan.colored)} of {count_text(scan.files)} have colors, but the others have one value per pixel: "
            f"{', '.join(scan.colored[:MAX_SHOWN])}; convert them to class indices, or set {location}.on_error=skip"
        )
    # A gray value in a set of color masks is a file of a single color, mostly of black alone.
    grays = [(value, value, value) for value in scan.values if 0 <= value < 256]
    table = sorted({*colors, *grays})
    distinct, tolerance = _distinct_colors(scan)
    if len(table) > min(MAX_PROPOSED, max(16, 4 * len(distinct))):
        table = distinct
        advice = (
            "they have smooth edges or lossy compression: save them without, or set "
            f"{location}.colors='{_table({color: index for index, color in enumerate(table)})}' "
            f"{location}.value_tolerance={tolerance}"
        )
    else:
        advice = f"set {location}.colors='{_table({color: index for index, color in enumerate(table)})}'"
    return UserError(
        f"{location}.colors: {count_text(scan.files)} contain colors whose classes are not declared: "
        f"{scan.describe([*colors, *scan.values])}; "
        f"{advice} with the class of each (0: background, 255: no label), or put a file colors.txt with lines `R G B NAME` "
        "beside the masks"
    )


def _distinct_colors(scan: MaskScan) -> tuple[list[Color], int]:
    """Return frequent colors that differ clearly, and the largest tolerance that keeps them apart."""
    pixels = {value if isinstance(value, tuple) else (value,) * 3: count.pixels for value, count in scan.counts.items()}
    table = sorted(pixels, key=lambda color: -pixels[color])
    colors, counts = np.array(table, dtype=np.int64), np.array([pixels[color] for color in table])
    smallest = MIN_SHARE * counts.sum()
    chosen: list[Color] = []
    gap = 2 * MAX_TOLERANCE + 1
    free = np.ones(len(colors), dtype=bool)
    for color in table:
        distances = np.abs(colors - np.array(color)).max(axis=1)
        nearest = min((int(distances[table.index(other)]) for other in chosen), default=gap)
        # With its neighbors, because a lossy compression spreads a color.
        is_frequent = counts[free & (distances <= NEAR)].sum() >= smallest
        if nearest > 2 * NEAR and (is_frequent or len(chosen) < 2):
            chosen.append(color)
            free &= distances > 2 * NEAR
            gap = min(gap, nearest)
        if len(chosen) == MAX_PROPOSED or counts[free].sum() < smallest:
            break
    return sorted(chosen), (gap - 1) // 2


def _table(colors: Mapping[Color, int]) -> str:
    return "{" + ", ".join(f'"{",".join(map(str, color))}": {target}' for color, target in colors.items()) + "}"


def _peaks(scan: MaskScan) -> dict[int, int]:
    """Return the class of each original value of masks that were compressed with loss; empty if they were not."""
    found = scan.values
    if len(found) < 9 or found[0] < 0 or found[-1] > 255:
        return {}
    peaks = [
        value
        for value in found
        if scan.share([value]) >= 0.5
        and all(scan.counts[value].pixels >= scan.counts[other].pixels for other in found if abs(other - value) <= NEAR)
    ]
    if not 2 <= len(peaks) <= 8 or 3 * len(peaks) > len(found):
        return {}
    if peaks[-1] < 3 * NEAR:  # as many small values as classes have
        return {}
    snapped = [0 if value <= 8 else 255 if value >= 247 else value for value in peaks]
    return {value: index for index, value in enumerate(snapped)}
