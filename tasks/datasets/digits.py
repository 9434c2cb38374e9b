"""Handwritten digits bundled with scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from noisybench.config.licenses import License
from noisybench.data.dataset import RawSplit
from noisybench.data.source import DatasetSource

MAX_INK = 16
"""Largest pixel value of the source."""


class Digits(DatasetSource):
    """1,797 handwritten digits of 8x8 pixels, bundled with scikit-learn: no download (Alpaydin and Kaynak 1998)."""

    license = License(
        "CC-BY-4.0",
        "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        "bundled",
        "part of scikit-learn",
    )

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read all digits; the test split is held out by `test_fraction`."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        # Rounded first, because the conversion to uint8 truncates.
        images = np.rint(digits.images * (255 / MAX_INK)).astype(np.uint8)[:, None]
        return RawSplit(images, digits.target.astype(np.int64)), None, tuple("0123456789")

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Return parameters of a small subset; no files are needed."""
        return {"train_size": 200, "test_size": 100}
