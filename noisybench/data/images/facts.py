"""Facts about decoded images: collected while a dataset is read, cached with its pixels, and reported as notes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from noisybench.data.images.decoding import UINT16_RANGE, DecodedImage, DecodingRules
from noisybench.data.notes import MAX_NAMES, ReadingNote
from noisybench.errors import UserError

FACTS: Mapping[str, str] = {
    "exif_orientation": "Images were turned as their EXIF orientation says",
    "exif_damaged": "The EXIF data of images are damaged, so that their orientation is taken as stored",
    "transparency": "Transparent pixels were composed on {transparent_color}",
    "intensity_16_bits": "16-bit gray values were scaled from 0 … 65535 to 0 … 255 (found: {low:g} to {high:g})",
    "intensity_range": "Gray values were scaled from {from_low:g} … {from_high:g} to 0 … 255 (found: {low:g} to {high:g})",
    "almost_black": "16-bit gray values reach less than 1/16 of their range, so that these images are almost black; "
    "dataset.intensity_range gives the values of all images that become black and white",
    "intensity_clipped": "Gray values outside of dataset.intensity_range were clipped",
    "min_is_white": "Gray values were inverted, because the files declare that 0 is white",
    "color_16_bits": "Colors of 16 bits were reduced to their upper 8 bits",
    "mixed_depths": "Some images have more than 8 bits and others have not, so their gray values may not be comparable",
    "unused_range": "dataset.intensity_range has no effect, because no image is gray with more than 8 bits",
    "first_frame": "Only the first frame or page was read",
    "blank": "Images have the same color everywhere",
}
"""Text of the note for each kind of conversion."""

DEEP_FACTS = ("intensity_16_bits", "intensity_range", "color_16_bits")
"""Kinds of facts about images of more than 8 bits."""

SMALLEST_SHARE = 1 / 16
"""Share of the range of 16 bits that the values of a dataset must reach; fewer than 16 gray levels would be left below."""


@dataclass
class ImageFacts:
    """Facts about the images of one stream.

    Attributes:
        count: number of images.
        rows: number of images of each kind of fact, and the rows of the first of them.
        intensities: lowest and highest value of images with more than 8 bits; None if there are none.

    Examples:
        >>> import numpy as np
        >>> facts = ImageFacts()
        >>> facts.add(7, DecodedImage(np.zeros((3, 2, 2), np.uint8), ("transparency",)))
        >>> [str(note) for note in facts.notes(DecodingRules(), lambda row: f"row {row}")]
        ['Transparent pixels were composed on white (1: row 7)']
    """

    count: int = 0
    rows: dict[str, tuple[int, list[int]]] = field(default_factory=dict)
    intensities: tuple[float, float] | None = None

    def add(self, row: int, image: DecodedImage) -> None:
        """Add what is known about the image in a row."""
        self.count += 1
        kinds = image.facts
        if (
            "intensity_16_bits" in kinds
            and image.intensities
            and image.intensities[1] < SMALLEST_SHARE * UINT16_RANGE[1]
        ):
            kinds = (*kinds, "almost_black")
        for kind in kinds:
            count, first = self.rows.get(kind, (0, []))
            self.rows[kind] = (count + 1, [*first, row] if len(first) < MAX_NAMES else first)
        if image.intensities is not None:
            low, high = self.intensities or image.intensities
            self.intensities = min(low, image.intensities[0]), max(high, image.intensities[1])

    def check(self, rules: DecodingRules, location: str) -> None:
        """Refuse 16-bit images that use so little of their range that nearly black pixels would be left.

        Args:
            rules: rules by which the images were decoded.
            location: beginning of the message, such as the folder of the images.

        Raises:
            UserError: no image reaches `SMALLEST_SHARE` of the range, and the rules give none.
        """
        if self.intensities is None or rules.intensity_range is not None:
            return
        low, high = self.intensities
        if high >= SMALLEST_SHARE * UINT16_RANGE[1]:
            return
        bits = max(8, int(high).bit_length())
        if "color_16_bits" in self.rows:
            cure = "convert them to 8 bits, or set dataset.intensity_range=[0, 65535] if they are meant to be dark"
        else:
            cure = (
                f"set dataset.intensity_range to the values that become black and white, such as [0, {2**bits - 1}] for "
                f"{bits} bits, or to [0, 65535] if they are meant to be dark"
            )
        raise UserError(
            f"{location}: images of 16 bits have values from {low:g} to {high:g} of 65535 only, and would become almost "
            f"black; {cure}"
        )

    def notes(self, rules: DecodingRules, name_of: Callable[[int], str]) -> tuple[ReadingNote, ...]:
        """Return the notes about the images.

        Args:
            rules: rules by which the images were decoded.
            name_of: returns the name of the image in a row.
        """
        rows = dict(self.rows)
        deep = sum(rows[kind][0] for kind in DEEP_FACTS if kind in rows)
        if 0 < deep < self.count:
            rows["mixed_depths"] = (self.count - deep, [])
        if rules.intensity_range is not None and "intensity_range" not in rows and self.count:
            rows["unused_range"] = (self.count, [])
        low, high = self.intensities or (0, 0)
        from_low, from_high = rules.intensity_range or UINT16_RANGE
        values = {"low": low, "high": high, "from_low": from_low, "from_high": from_high}
        return tuple(
            ReadingNote(
                kind,
                text.format(transparent_color=rules.transparent_color, **values),
                rows[kind][0],
                tuple(name_of(row) for row in rows[kind][1]),
            )
            for kind, text in FACTS.items()
            if kind in rows
        )

    def to_json(self) -> dict[str, Any]:
        """Return the facts as JSON-like data."""
        return {"count": self.count, "rows": self.rows, "intensities": self.intensities}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ImageFacts:
        """Return the facts that `to_json` has stored.

        Raises:
            TypeError, ValueError, KeyError: the data are damaged.
        """
        rows = {str(kind): (int(count), [int(row) for row in first]) for kind, (count, first) in data["rows"].items()}
        pair = data["intensities"]
        return cls(int(data["count"]), rows, None if pair is None else (float(pair[0]), float(pair[1])))
