"""Base class of datasets of image files."""

from __future__ import annotations

from typing import Literal

from noisybench.config.parameters import parameter
from noisybench.data.images.decoding import DecodingRules, intensity_range
from noisybench.data.source import DatasetSource


class ImageSource(DatasetSource):
    """Images in files, decoded by the rules of `noisybench.data.images.decoding`."""

    on_error: Literal["raise", "skip"] = parameter(
        "raise", help="Treatment of damaged or missing images: `raise` an error, or `skip` and record them"
    )
    intensity_range: list[float] | None = parameter(
        None,
        help="Values of gray images of more than 8 bits that become black and white, such as [0, 4095] for 12 bits (default: "
        "the whole range of 16 bits; an error for 32 bits)",
    )
    transparent_color: Literal["white", "black", "gray"] = parameter(
        "white", help="Color on which transparent images are composed"
    )

    @property
    def decoding_rules(self) -> DecodingRules:
        """Choices that the image files do not make.

        Raises:
            UserError: `intensity_range` is no range.
        """
        return DecodingRules(intensity_range(self.intensity_range), self.transparent_color)
